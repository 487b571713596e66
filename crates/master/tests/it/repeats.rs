//! Requests that come again after the master was started anew: each gets the first one's reply, and nothing happens twice.

use crate::support::{Fixture, Home, error, keys, memory_store};
use forebay_base::ErrorKind;
use forebay_master::fault;
use forebay_proto::error::WireError;
use forebay_proto::v1::*;

/// Everything that is sent, to be sent again as it is.
struct Sent {
    mount: AddMountRequest,
    make: MakeDirectoryRequest,
    made_twice: MakeDirectoryRequest,
    create: CreateRequest,
    complete: CompleteRequest,
    rename: RenameRequest,
    attributes: SetAttributesRequest,
    delete: DeleteRequest,
}

/// What was answered.
#[derive(Debug, PartialEq)]
struct Answered {
    mount: u32,
    made: u64,
    made_twice: (ErrorKind, String),
    write: u64,
    completed: (u64, u64, String),
    attributes: (u64, String),
}

async fn send(fixture: &Fixture, sent: &Sent) -> Answered {
    let (mut namespace, mut mounts) = (fixture.namespace.clone(), fixture.mounts.clone());
    let mount = mounts.add_mount(sent.mount.clone()).await.unwrap().into_inner().mount.unwrap();
    let made = namespace.make_directory(sent.make.clone()).await.unwrap().into_inner().entry.unwrap();
    let twice: WireError = error(namespace.make_directory(sent.made_twice.clone()).await.unwrap_err());
    let created = fixture.create_with(sent.create.clone()).await.unwrap();
    let complete = CompleteRequest { write: created.write, ..sent.complete.clone() };
    let completed = fixture.complete_with(complete).await.unwrap();
    namespace.rename(sent.rename.clone()).await.unwrap();
    let changed = namespace.set_attributes(sent.attributes.clone()).await.unwrap().into_inner().entry.unwrap();
    namespace.delete(sent.delete.clone()).await.unwrap();
    Answered {
        mount: mount.mount,
        made: made.inode,
        made_twice: (twice.kind, twice.message),
        write: created.write,
        completed: (completed.inode, completed.version, completed.version_tag),
        attributes: (changed.inode, changed.owner),
    }
}

#[tokio::test]
async fn requests_repeated_after_a_restart_get_the_first_reply() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    let path = |text: &str| bytes::Bytes::from(text.to_owned());
    let make = |meta| MakeDirectoryRequest { meta, path: path("/m/d"), mode: 0o755, ..MakeDirectoryRequest::default() };
    let spec = MountSpec { uri, ..MountSpec::default() };
    let sent = Sent {
        mount: AddMountRequest { meta: fixture.meta(), path: path("/m"), spec: Some(spec), skip_check: false },
        make: make(fixture.meta()),
        made_twice: make(fixture.meta()),
        create: fixture.create_request("/m/a"),
        complete: CompleteRequest { meta: fixture.meta(), ..CompleteRequest::default() },
        rename: RenameRequest { meta: fixture.meta(), from: path("/m/a"), to: path("/m/b"), no_replace: true },
        attributes: SetAttributesRequest {
            meta: fixture.meta(),
            path: path("/m/b"),
            owner: Some("first".to_owned()),
            ..SetAttributesRequest::default()
        },
        delete: DeleteRequest { meta: fixture.meta(), path: path("/m/d"), recursive: true, ..DeleteRequest::default() },
    };
    let answered = send(&fixture, &sent).await;
    assert_eq!(answered.made_twice.0, ErrorKind::AlreadyExists);
    fixture.purged().await;
    // What others do afterwards is not undone by a repetition.
    fixture.mkdir("/m/d").await.unwrap();
    let later =
        SetAttributesRequest { meta: fixture.meta(), owner: Some("later".to_owned()), ..sent.attributes.clone() };
    fixture.namespace.clone().set_attributes(later).await.unwrap();
    let again = fixture.stat("/m/d").await.unwrap().inode;
    let before = keys(&store);

    let mut fixture = fixture;
    for _ in 0..2 {
        fixture.master.shutdown().await;
        fixture = home.start().await;
        assert_eq!(send(&fixture, &sent).await, answered);
    }
    fixture.purged().await;
    assert_eq!(fixture.names("/m").await, ["b", "d/"]);
    assert_eq!(fixture.stat("/m/d").await.unwrap().inode, again, "the directory that was made later is there");
    assert_eq!(fixture.stat("/m/b").await.unwrap().owner, "later");
    assert_eq!(keys(&store), before);
}

#[tokio::test]
async fn a_directory_that_was_made_in_the_store_before_a_crash_is_the_requests_own() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount("/m", &uri).await;
    let make = |path: &str, meta| MakeDirectoryRequest {
        meta,
        path: path.to_owned().into(),
        mode: 0o700,
        owner: "ann".to_owned(),
        ..MakeDirectoryRequest::default()
    };
    let (first, second) = (make("/m/d", fixture.meta()), make("/m/e", fixture.meta()));
    fault::plant("mkdir: made, not committed");
    for request in [&first, &second] {
        fixture.namespace.clone().make_directory(request.clone()).await.unwrap_err();
    }
    fixture.master.shutdown().await;
    fault::clear("mkdir: made, not committed");
    assert_eq!(keys(&store), ["d/", "e/"]);

    let fixture = home.start().await;
    // Others see it, and cannot make it.
    assert_eq!(fixture.names_as("/m", SyncMode::Now).await, ["d/", "e/"]);
    let other = fixture.namespace.clone().make_directory(make("/m/d", fixture.meta())).await;
    assert_eq!(error(other.unwrap_err()).kind, ErrorKind::AlreadyExists);
    let made = fixture.namespace.clone().make_directory(first.clone()).await.unwrap().into_inner().entry.unwrap();
    assert_eq!((made.owner.as_str(), made.mode), ("ann", 0o700));
    let again = fixture.namespace.clone().make_directory(first).await.unwrap().into_inner().entry.unwrap();
    assert_eq!(again.inode, made.inode);

    // When it was gone and another has made one, that one is not its own.
    fixture.delete("/m/e").await.unwrap();
    fixture.purged().await;
    fixture.namespace.clone().make_directory(make("/m/e", fixture.meta())).await.unwrap();
    let refused = fixture.namespace.clone().make_directory(second).await;
    assert_eq!(error(refused.unwrap_err()).kind, ErrorKind::AlreadyExists);
}
