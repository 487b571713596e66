//! The same against a real S3 server.
use crate::support::{Fixture, Home, error, eventually};
use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use forebay_proto::ticket::Ticket;
use forebay_proto::v1::*;
use forebay_testkit::s3::{Access, Moto, S3Server, Versitygw};
use forebay_ufs::{OpenOptions, PartPosition, Ufs, UploadId};
use std::collections::HashMap;
use std::sync::Arc;

const PART: usize = 5 << 20;

fn spec(access: &Access, uri: &str, sync: &str) -> MountSpec {
    MountSpec {
        uri: uri.to_owned(),
        sync_interval: sync.to_owned(),
        options: HashMap::from([
            ("endpoint".to_owned(), access.endpoint.clone()),
            ("region".to_owned(), access.region.clone()),
            ("path-style".to_owned(), "true".to_owned()),
        ]),
        secrets: HashMap::from([
            ("access_key_id".to_owned(), access.access_key.clone()),
            ("secret_access_key".to_owned(), access.secret_key.clone()),
        ]),
        ..MountSpec::default()
    }
}

async fn add(fixture: &Fixture, path: &str, spec: MountSpec) -> Result<MountEntry, WireError> {
    let request =
        AddMountRequest { meta: fixture.meta(), path: path.to_owned().into(), spec: Some(spec), skip_check: false };
    Ok(fixture.mounts.clone().add_mount(request).await.map_err(error)?.into_inner().mount.unwrap())
}

fn open(spec: &MountSpec) -> Arc<dyn Ufs> {
    let names = spec.options.iter().map(|(name, value)| (name.replace('-', "_"), value.clone()));
    let options: Vec<(String, String)> = names.collect();
    let options = OpenOptions::from_mount(
        &spec.uri,
        options.iter().map(|(n, v)| (n.as_str(), v.as_str())),
        spec.secrets.iter().map(|(n, v)| (n.as_str(), v.as_str())),
    )
    .unwrap();
    forebay_ufs::open(&spec.uri, &options).unwrap()
}

async fn setup(server: &S3Server, sync: &str) -> (Home, Fixture, Arc<dyn Ufs>) {
    server.create_bucket("data").await.unwrap();
    let home = Home::new();
    let fixture = home.start().await;
    let spec = spec(server.access(), "s3://data/root", sync);
    let store = open(&spec);
    add(&fixture, "/s", spec).await.unwrap();
    (home, fixture, store)
}

async fn keys(server: &S3Server) -> Vec<String> {
    let objects = server.client().list("data", "").await.unwrap();
    objects.into_iter().map(|object| object.key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_read_written_renamed_and_deleted() {
    let server = Versitygw::start().await.unwrap();
    let (_home, fixture, store) = setup(&server, "0").await;
    for key in ["root/t/a", "root/t/b/c d", "root/t/b/e", "root/u", "outside"] {
        server.client().put("data", key, key.to_owned()).await.unwrap();
    }
    assert_eq!(fixture.names("/s").await, ["t/", "u"]);
    assert_eq!(fixture.stat("/s/t/b/c d").await.unwrap().length, "root/t/b/c d".len() as u64);
    let entry = fixture.write(&*store, "/s/t/new", b"hello").await.unwrap();
    let again = fixture.stat("/s/t/new").await.unwrap();
    assert_eq!((again.inode, again.version), (entry.inode, 1), "the store has what was written");
    let created = fixture.create("/s/big").await.unwrap();
    let request = RenewWriteRequest { write: created.write, start_upload: true };
    let reply = fixture.namespace.clone().renew_write(request).await.unwrap().into_inner();
    let ticket = Ticket::peek(&reply.ticket).unwrap();
    let mut parts = Vec::new();
    for (number, len) in [(1, ticket.part_size as usize), (2, PART)] {
        let position = PartPosition { number, offset: u64::from(number - 1) * ticket.part_size };
        let body = vec![Bytes::from(vec![number as u8; len])];
        let part = store.put_part(&ticket.key, &UploadId(ticket.upload.clone()), position, body).await.unwrap();
        parts.push(Part { number, length: part.length, tag: part.tag.0 });
    }
    let length = parts.iter().map(|part| part.length).sum();
    let request =
        CompleteRequest { meta: fixture.meta(), write: created.write, length, parts, ..CompleteRequest::default() };
    let big = fixture.complete_with(request).await.unwrap();
    assert_eq!(fixture.stat("/s/big").await.unwrap().version, big.version, "the tag of parts is the store's");
    fixture.mkdir("/s/empty/dir").await.unwrap();
    fixture.rename("/s/t", "/s/moved").await.unwrap();
    assert_eq!(fixture.names("/s/moved").await, ["a", "b/", "new"]);
    assert_eq!(fixture.names("/s").await, ["big", "empty/", "moved/", "u"]);
    fixture.delete("/s/moved").await.unwrap();
    fixture.delete("/s/empty").await.unwrap();
    fixture.purged().await;
    assert_eq!(keys(&server).await, ["outside", "root/big", "root/u"]);
    assert_eq!(server.client().uploads("data").await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_bucket_is_said() {
    let server = Versitygw::start().await.unwrap();
    server.create_bucket("data").await.unwrap();
    let home = Home::new();
    let fixture = home.start().await;
    let missing = add(&fixture, "/a", spec(server.access(), "s3://nosuchbucket", "0")).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound, "{missing:?}");
    assert!(missing.message.contains("nosuchbucket"), "{missing:?}");
    let mut wrong = spec(server.access(), "s3://data", "0");
    wrong.secrets.insert("secret_access_key".into(), "not-the-secret".into());
    let denied = add(&fixture, "/a", wrong).await.unwrap_err();
    assert_eq!(denied.kind, ErrorKind::PermissionDenied, "{denied:?}");
    assert!(!format!("{denied:?}").contains("not-the-secret"));
    let mut away = spec(server.access(), "s3://data", "0");
    away.options.insert("endpoint".into(), "http://127.0.0.1:1".into());
    let away = add(&fixture, "/a", away).await.unwrap_err();
    assert!(away.kind == ErrorKind::Unavailable && away.last_word, "said at once: {away:?}");
    assert!(away.message.contains("127.0.0.1:1"), "{away:?}");
    add(&fixture, "/a", spec(server.access(), "s3://data", "0")).await.unwrap();
    assert_eq!(keys(&server).await, [""; 0], "the check leaves nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_only_an_object_store_has() {
    let server = Moto::start().await.unwrap();
    let (_home, fixture, _store) = setup(&server, "0").await;
    for key in ["root/a", "root/a/b", "root/a-b", "root/x//y", "root/d/../e", "root/p%41 +", "root/ü"] {
        server.client().put("data", key, "x").await.unwrap();
    }
    server.client().put("data", "root/m/", "").await.unwrap();
    server.client().put("data", "root/e", "").await.unwrap();
    server.client().put("data", "root/e/f", "x").await.unwrap();
    assert_eq!(fixture.names("/s").await, ["a", "a-b", "d/", "e/", "m/", "p%41 +", "x/", "ü"]);
    assert_eq!(fixture.names("/s/e").await, ["f"]);
    assert_eq!(fixture.names("/s/x").await, [""; 0]);
    fixture.delete("/s/e").await.unwrap();
    fixture.purged().await;
    eventually("both are gone", async || !keys(&server).await.iter().any(|key| key.starts_with("root/e"))).await;
    let request = StatRequest { path: b"/s/\xff\xfe".to_vec().into(), ..StatRequest::default() };
    assert_eq!(error(fixture.namespace.clone().stat(request).await.unwrap_err()).kind, ErrorKind::NotFound);
    let request = CreateRequest { path: b"/s/\xff\xfe".to_vec().into(), ..fixture.create_request("/s/x") };
    let refused = fixture.create_with(request).await.unwrap_err();
    assert!(refused.message.contains("must be UTF-8"), "{refused:?}");
}
