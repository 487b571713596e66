//! The right to read that is given to others.

use super::{Suite, assert_fails, collect, pattern};
use crate::{GrantedReads, ReadGrant, UfsError, UfsResult};
use std::ops::Range;
use std::time::Duration;

const LIFETIME: Duration = Duration::from_secs(60);

pub(super) async fn run(suite: &Suite) {
    let key = "cf-grant/a b+%é (1)";
    let body = pattern(9, 300_000);
    let meta = suite.put(key, body.clone()).await;
    let grant = match suite.store.grant_read(key.as_bytes(), &meta.expected(), LIFETIME).await {
        Err(UfsError::Unsupported(_)) => return suite.clear("cf-grant").await,
        grant => grant.unwrap_or_else(|error| panic!("the right to read {key}: {error}")),
    };
    assert_eq!((&grant.key[..], &grant.expected), (key.as_bytes(), &meta.expected()));
    assert!(grant.lifetime <= LIFETIME);
    for range in [0..300_000, 0..1, 299_999..300_000, 1_000..200_001] {
        let got = read(&grant, range.clone()).await.unwrap_or_else(|error| panic!("{range:?}: {error}"));
        assert!(got == body[range.start as usize..range.end as usize], "range {range:?} gave other bytes");
    }
    assert_fails!(read(&grant, 0..300_001).await, Invalid, "a range past the end");
    let none = suite.store.grant_read(b"cf-grant/none", &meta.expected(), LIFETIME).await.expect("nothing is asked");
    assert_fails!(read(&none, 0..1).await, NotFound, "a missing file");
    assert_fails!(suite.store.grant_read(b"", &meta.expected(), LIFETIME).await, IsADirectory, "the root");
    suite.put(key, pattern(10, 300_000)).await;
    assert_fails!(read(&grant, 0..1).await, VersionChanged, "another version");
    suite.clear("cf-grant").await;
}

async fn read(grant: &ReadGrant, range: Range<u64>) -> UfsResult<Vec<u8>> {
    collect(GrantedReads::new(2).read(grant, range).await?).await
}
