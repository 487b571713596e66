//! The right to read from a store itself: who gets it, and for what.

use crate::support::{Fixture, Home, TestClock, error, local_store, memory_store};
use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use forebay_proto::ticket::Ticket;
use forebay_proto::v1::grant_direct_read_reply::Way;
use forebay_proto::v1::*;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

async fn ticket(fixture: &Fixture, path: &str) -> Bytes {
    let request = OpenRequest { path: path.to_owned().into(), sync: SyncMode::Now as i32, bound: None };
    fixture.namespace.clone().open(request).await.unwrap().into_inner().ticket
}

async fn grant(fixture: &Fixture, ticket: impl Into<Bytes>) -> Result<GrantDirectReadReply, WireError> {
    let request = GrantDirectReadRequest { ticket: ticket.into() };
    fixture.namespace.clone().grant_direct_read(request).await.map(|reply| reply.into_inner()).map_err(error)
}

#[tokio::test]
async fn who_may_read_through_a_worker_may_read_the_store() {
    let home = Home::new();
    let clock = TestClock::starting();
    let mut settings = home.settings();
    settings.clock = clock.clone();
    settings.ticket_lifetime = Duration::from_secs(60);
    settings.direct_grant_lifetime = Duration::from_secs(7);
    let fixture = Fixture::start(settings).await;
    let root = home.store_dir("store");
    let store = local_store(&root).await;
    fixture.mount("/l", &format!("file://{}", root.display())).await;
    let entry = fixture.write(&*store, "/l/dir/a b", b"hello").await.unwrap();

    let good = ticket(&fixture, "/l/dir/a b").await;
    let granted = grant(&fixture, good.clone()).await.unwrap();
    let expected = GrantDirectReadReply {
        store: format!("file://{}", root.display()),
        key: "dir/a b".into(),
        length: 5,
        version_tag: entry.version_tag,
        lifetime_ms: 7000,
        way: Some(Way::Directory(Bytes::copy_from_slice(root.as_os_str().as_bytes()))),
    };
    assert_eq!(granted, expected);

    let mut forged = good.to_vec();
    forged[3] ^= 1;
    let own = Ticket::peek(&good).unwrap().sign(b"another key");
    let to_write = fixture.create("/l/new").await.unwrap().ticket;
    for bad in [Bytes::new(), forged.into(), own, to_write] {
        assert_eq!(grant(&fixture, bad).await.unwrap_err().kind, ErrorKind::PermissionDenied);
    }
    clock.advance(Duration::from_secs(61));
    let late = grant(&fixture, good).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::PermissionDenied, "{late}");
    assert!(late.message.contains("expired"), "{late}");
    grant(&fixture, ticket(&fixture, "/l/dir/a b").await).await.unwrap();
}

#[tokio::test]
async fn what_a_mount_forbids_is_refused_at_once() {
    let home = Home::new();
    let fixture = home.start().await;
    let root = home.store_dir("store");
    std::fs::write(root.join("a"), "hello").unwrap();
    fixture.mount("/l", &format!("file://{}", root.display())).await;
    let good = ticket(&fixture, "/l/a").await;
    grant(&fixture, good.clone()).await.unwrap();

    let update = |set: &[(&str, &str)]| UpdateMountRequest {
        meta: fixture.meta(),
        path: "/l".into(),
        set_options: set.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        ..UpdateMountRequest::default()
    };
    let wrong = fixture.mounts.clone().update_mount(update(&[("direct", "sometimes")])).await.unwrap_err();
    assert_eq!(error(wrong).message, "option direct has the value \"sometimes\"");
    fixture.mounts.clone().update_mount(update(&[("direct", "never")])).await.unwrap();
    let refused = grant(&fixture, good.clone()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidArgument);
    assert_eq!(refused.message, "clients must not read from the store of /l (option direct=never)");
    assert_eq!(refused.hint, "allow it: forebay mount update /l --option direct=fallback");
    fixture.mounts.clone().update_mount(update(&[("direct", "fallback")])).await.unwrap();
    grant(&fixture, good.clone()).await.unwrap();

    let request = RemoveMountRequest { meta: fixture.meta(), path: "/l".into(), discard: false };
    fixture.mounts.clone().remove_mount(request).await.unwrap();
    assert_eq!(grant(&fixture, good).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_store_that_cannot_be_read_so_is_told() {
    let home = Home::new();
    let fixture = home.start().await;
    let (store, uri) = memory_store();
    store.insert(b"a", Bytes::from_static(b"hello"));
    fixture.mount("/m", &uri).await;
    let refused = grant(&fixture, ticket(&fixture, "/m/a").await).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::InvalidArgument);
    assert!(refused.message.contains("a store in memory is read in its own process alone"), "{refused}");
}
