//! Mounts: checked, listed, changed, removed; credentials kept secret.
use crate::support::{Fixture, Home, error, eventually, keys, memory_store};
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use forebay_proto::v1::*;
use forebay_ufs::Ufs;
use forebay_ufs::memory::{Fault, Operation};
use std::collections::HashMap;

impl Fixture {
    async fn list_mounts(&self) -> Vec<MountEntry> {
        self.mounts.clone().list_mounts(ListMountsRequest {}).await.unwrap().into_inner().mounts
    }

    async fn update(&self, path: &str, change: UpdateMountRequest) -> Result<MountEntry, WireError> {
        let request = UpdateMountRequest { meta: self.meta(), path: path.to_owned().into(), ..change };
        Ok(self.mounts.clone().update_mount(request).await.map_err(error)?.into_inner().mount.unwrap())
    }

    async fn unmount(&self, path: &str, discard: bool) -> Result<(), WireError> {
        let request = RemoveMountRequest { meta: self.meta(), path: path.to_owned().into(), discard };
        self.mounts.clone().remove_mount(request).await.map(|_| ()).map_err(error)
    }

    async fn add_s3(&self, path: &str, secrets: &[(&str, &str)]) -> Result<MountEntry, WireError> {
        let text = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let spec = MountSpec {
            uri: "s3://bucket/prefix".into(),
            options: HashMap::from([
                ("endpoint".to_owned(), "http://127.0.0.1:1".to_owned()),
                ("region".to_owned(), "us-east-1".to_owned()),
            ]),
            secrets: secrets.iter().map(text).collect(),
            ..MountSpec::default()
        };
        let request =
            AddMountRequest { meta: self.meta(), path: path.to_owned().into(), spec: Some(spec), skip_check: true };
        Ok(self.mounts.clone().add_mount(request).await.map_err(error)?.into_inner().mount.unwrap())
    }
}

#[tokio::test]
async fn mounts_are_added_listed_changed_and_removed() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    store.insert(b"a", "1");
    let entry = fixture.mount_with("/deep/er/lake", &uri, &[("sync", "5m"), ("block_size", "8MiB")]).await.unwrap();
    assert_eq!(&entry.path[..], b"/deep/er/lake");
    let spec = entry.spec.unwrap();
    assert_eq!((spec.sync_interval.as_str(), spec.options["block_size"].as_str()), ("5m", "8MiB"));
    assert_eq!(fixture.stat("/deep/er/lake/a").await.unwrap().block_size, 8 << 20);
    assert!(fixture.stat("/deep/er/lake").await.unwrap().mount_point);
    let change = UpdateMountRequest {
        read_only: Some(true),
        sync_interval: Some("0".into()),
        set_options: HashMap::from([("serve_stale".into(), "true".into())]),
        unset_options: vec!["block_size".into()],
        ..UpdateMountRequest::default()
    };
    let spec = fixture.update("/deep/er/lake", change).await.unwrap().spec.unwrap();
    assert_eq!((spec.read_only, spec.sync_interval.as_str()), (true, "0"));
    assert_eq!(spec.options, HashMap::from([("serve_stale".into(), "true".into())]));
    assert_eq!(fixture.create("/deep/er/lake/b").await.unwrap_err().kind, ErrorKind::PermissionDenied);
    fixture.master.shutdown().await;
    let fixture = home.start().await;
    assert_eq!(fixture.list_mounts().await.len(), 1);
    fixture.unmount("/deep/er/lake", false).await.unwrap();
    assert_eq!(fixture.list_mounts().await, []);
    assert!(!fixture.exists("/deep/er/lake/a").await);
    assert_eq!(keys(&store), ["a"], "nothing in the store is touched");
}

#[tokio::test]
async fn what_is_wrong_is_said_precisely() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    let refused = async |path: &str, uri: &str, options: &[(&str, &str)]| {
        let error = fixture.mount_with(path, uri, options).await.unwrap_err();
        format!("{:?}: {}; {}", error.kind, error.message, error.hint)
    };
    for (path, uri, options, expected) in [
        ("/m", "s3a://bucket", &[][..], "did you mean s3://?"),
        ("/m", "/data", &[], "no scheme"),
        ("/m", &uri, &[("serve_stael", "true")], "did you mean serve_stale?"),
        ("/m", &uri, &[("serve_stale", "yes")], "allowed are true and false"),
        ("/m", &uri, &[("page_size", "3MiB")], "powers of two"),
        ("/m", &uri, &[("part_size", "65MiB")], "64MiB at most"),
        ("/m", &uri, &[("part_size", "0")], "64MiB at most"),
        ("/m", &uri, &[("sync", "often")], "write a duration"),
        ("m", &uri, &[], "must start with /"),
        ("/", &uri, &[], "InvalidArgument"),
        ("/m", "file:///does/not/exist", &[], "/does/not/exist"),
        ("/m", "s3://bucket", &[("endpont", "http://x")], "did you mean endpoint?"),
    ] {
        let text = refused(path, uri, options).await;
        assert!(text.contains(expected), "{path} {uri} {options:?}: {text}");
    }
    let denied = store.error(forebay_ufs::UfsError::Denied, "planted: the key may not list");
    store.set_faults(move |operation, _| match operation {
        Operation::Check => Fault::Fail(denied.clone()),
        _ => Fault::None,
    });
    let text = refused("/m", &uri, &[]).await;
    assert!(text.contains("PermissionDenied") && text.contains("planted"), "{text}");
    store.clear_faults();
    fixture.mount("/lake", &uri).await;
    let again = refused("/lake", &uri, &[]).await;
    assert!(again.contains("/lake"), "{again}");
    let error = fixture.unmount("/lakee", false).await.unwrap_err();
    assert_eq!((error.message.as_str(), error.hint.as_str()), ("mount not found: /lakee", "did you mean /lake?"));
}

#[tokio::test]
async fn a_mount_is_not_removed_over_unfinished_work() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let mut settings = home.settings();
    settings.blocked_wait = std::time::Duration::from_millis(200);
    let fixture = Fixture::start(settings).await;
    fixture.mount("/m", &uri).await;
    let created = fixture.create("/m/a").await.unwrap();
    let request = RenewWriteRequest { write: created.write, start_upload: true };
    fixture.namespace.clone().renew_write(request).await.unwrap();
    let error = fixture.unmount("/m", false).await.unwrap_err();
    assert!(error.hint.contains("--discard"), "{error:?}");
    let request = AbandonWriteRequest { meta: fixture.meta(), write: created.write };
    fixture.namespace.clone().abandon_write(request).await.unwrap();
    store.insert(b"d", "1");
    let down = store.error(forebay_ufs::UfsError::Unavailable, "planted");
    store.set_faults(move |operation, _| match operation {
        Operation::Delete => Fault::Fail(down.clone()),
        _ => Fault::None,
    });
    fixture.delete("/m/d").await.unwrap();
    let error = fixture.unmount("/m", false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "deletes are not finished: {error:?}");
    fixture.unmount("/m", true).await.unwrap();
    assert_eq!(keys(&store), ["d"]);
    fixture.purged().await;
}

/// A writer that was at work when its mount went is given up, and its upload with it.
#[tokio::test]
async fn a_mount_that_is_discarded_leaves_no_upload_in_its_store() {
    let home = Home::new();
    let fixture = home.start().await;
    let (store, uri) = memory_store();
    fixture.mount("/m", &uri).await;
    let created = fixture.create("/m/a").await.unwrap();
    let request = RenewWriteRequest { write: created.write, start_upload: true };
    fixture.namespace.clone().renew_write(request).await.unwrap();
    let theirs = store.begin_upload(b"b").await.unwrap();
    assert_eq!(store.list_uploads(b"", None, 10).await.unwrap().uploads.len(), 2);
    fixture.unmount("/m", true).await.unwrap();
    eventually("our upload is aborted", async || store.list_uploads(b"", None, 10).await.unwrap().uploads.len() == 1)
        .await;
    assert_eq!(store.list_uploads(b"", None, 10).await.unwrap().uploads[0].upload, theirs);
}

#[tokio::test]
async fn names_of_options_and_secrets_are_written_either_way() {
    let home = Home::new();
    let fixture = home.start().await;
    let entry = fixture.add_s3("/s", &[("access-key-id", "AKIAEXAMPLE"), ("secret-access-key", "hunter2")]).await;
    assert!(entry.unwrap().credentials.contains("AKIA"));
    let change = UpdateMountRequest {
        unset_options: vec!["access-key-id".into(), "secret-access-key".into()],
        ..UpdateMountRequest::default()
    };
    let change = UpdateMountRequest { skip_check: true, ..change };
    assert_eq!(fixture.update("/s", change).await.unwrap().credentials, "automatic");
}

#[tokio::test]
async fn secrets_reach_workers_and_nobody_else() {
    let home = Home::new();
    let fixture = home.start().await;
    let secrets = [("access_key_id", "AKIAEXAMPLE"), ("secret_access_key", "hunter2hunter2")];
    let entry = fixture.add_s3("/s", &secrets).await.unwrap();
    assert_eq!(entry.credentials, "stored (AKIA…)");
    let seen = format!("{entry:?} {:?} {:?}", fixture.list_mounts().await, fixture.status().await);
    assert!(!seen.contains("hunter2") && !seen.contains("AKIAEXAMPLE"), "{seen}");
    let view = async |fixture: &Fixture| {
        let address = WorkerAddress { worker: 7, data: "127.0.0.1:1".into(), weight: 1, ..WorkerAddress::default() };
        let request = RegisterRequest { address: Some(address), ..RegisterRequest::default() };
        fixture.registry.clone().register(request).await.unwrap().into_inner().view.unwrap()
    };
    let spec = view(&fixture).await.mounts[0].spec.clone().unwrap();
    assert_eq!(spec.secrets["secret_access_key"], "hunter2hunter2");
    let bad = fixture.add_s3("/t", &[("password", "x")]).await.unwrap_err();
    assert!(bad.message.contains("password") && bad.hint.contains("secret_access_key"), "{bad:?}");
    assert!(fixture.add_s3("/t", &secrets[..1]).await.is_err(), "half a key");
    fixture.master.shutdown().await;
    for path in files_below(home.dir.path()) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{path:?} holds the secret");
    }
    let fixture = home.start().await;
    let spec = view(&fixture).await.mounts[0].spec.clone().unwrap();
    assert_eq!(spec.secrets["secret_access_key"], "hunter2hunter2");
    let change = UpdateMountRequest {
        set_secrets: HashMap::from([
            ("access_key_id".into(), "NEWKEY".into()),
            ("secret_access_key".into(), "other".into()),
        ]),
        skip_check: true,
        ..UpdateMountRequest::default()
    };
    assert_eq!(fixture.update("/s", change).await.unwrap().credentials, "stored (NEWK…)");
    assert_eq!(view(&fixture).await.mounts[0].spec.clone().unwrap().secrets["secret_access_key"], "other");
}

fn files_below(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

#[tokio::test]
async fn a_second_master_on_the_same_directory_is_refused() {
    let home = Home::new();
    let fixture = home.start().await;
    let error = forebay_master::Master::start(home.settings()).await.unwrap_err();
    assert!(error.to_string().contains("in use by another"), "{error}");
    fixture.mkdir("/d").await.unwrap();
}

#[tokio::test]
async fn workers_come_and_go() {
    let home = Home::new();
    let mut settings = home.settings();
    settings.worker_timeout = std::time::Duration::from_secs(2);
    let fixture = Fixture::start(settings).await;
    let (_store, uri) = memory_store();
    let address = WorkerAddress { worker: 9, data: "127.0.0.1:9".into(), weight: 5, ..WorkerAddress::default() };
    let request = RegisterRequest { address: Some(address), version: "1".into(), ..RegisterRequest::default() };
    let reply = fixture.registry.clone().register(request.clone()).await.unwrap().into_inner();
    assert_eq!(reply.cluster_id, fixture.status().await.cluster_id);
    let mut view = reply.view.unwrap();
    assert_eq!((view.workers.len(), view.mounts.len(), view.ticket_keys[0].len()), (1, 0, 32));
    let beat = async |epoch| {
        let request = HeartbeatRequest { worker: 9, epoch, ..HeartbeatRequest::default() };
        fixture.registry.clone().heartbeat(request).await.unwrap().into_inner()
    };
    eventually("those that another leader knew have had their time", async || {
        view = beat(view.epoch).await.view.unwrap_or_else(|| view.clone());
        !view.settling
    })
    .await;
    assert_eq!(beat(view.epoch).await.view, None, "nothing new");
    fixture.mount("/m", &uri).await;
    let newer = beat(view.epoch).await.view.unwrap();
    assert!(newer.epoch > view.epoch);
    assert_eq!(newer.mounts.len(), 1);
    let list = fixture.cluster.clone().workers(WorkersRequest::default()).await.unwrap().into_inner();
    assert_eq!((list.epoch, list.workers.len()), (newer.epoch, 1));
    eventually("the silent worker is out", async || {
        fixture.cluster.clone().workers(WorkersRequest::default()).await.unwrap().into_inner().workers.is_empty()
    })
    .await;
    let status = &fixture.status().await.workers[0];
    assert!(!status.live && status.version == "1");
    assert!(beat(newer.epoch).await.register_again);
    fixture.registry.clone().register(request).await.unwrap();
    let empty = RegisterRequest::default();
    assert!(fixture.registry.clone().register(empty).await.is_err());
}

/// As those of the cluster that this one was restored from.
#[tokio::test]
async fn workers_of_another_cluster_are_refused() {
    let home = Home::new();
    let fixture = home.start().await;
    let own = fixture.status().await.cluster_id;
    let address = WorkerAddress { worker: 9, data: "127.0.0.1:9".into(), weight: 5, ..WorkerAddress::default() };
    let of = |cluster: &str| RegisterRequest {
        address: Some(address.clone()),
        cluster_id: cluster.into(),
        ..RegisterRequest::default()
    };
    let beat =
        |cluster: &str| HeartbeatRequest { worker: 9, cluster_id: cluster.into(), ..HeartbeatRequest::default() };
    let refused = fixture.registry.clone().register(of("another")).await.unwrap_err();
    assert!(refused.message().contains("cluster another") && refused.message().contains(&own), "{refused}");
    assert!(fixture.status().await.workers.is_empty(), "it was taken in");
    fixture.registry.clone().register(of(&own)).await.unwrap();
    assert!(!fixture.registry.clone().heartbeat(beat(&own)).await.unwrap().into_inner().register_again);
    fixture.registry.clone().heartbeat(beat("another")).await.unwrap_err();
    fixture.registry.clone().register(of("another")).await.unwrap_err();
    fixture.registry.clone().register(of("")).await.unwrap();
}

#[tokio::test]
async fn freed_inodes_are_told_to_workers() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount("/m", &uri).await;
    let address = WorkerAddress { worker: 9, data: "127.0.0.1:9".into(), weight: 5, ..WorkerAddress::default() };
    let request = RegisterRequest { address: Some(address), ..RegisterRequest::default() };
    fixture.registry.clone().register(request).await.unwrap();
    let entry = fixture.write(&*store, "/m/a", b"1").await.unwrap();
    fixture.delete("/m/a").await.unwrap();
    fixture.purged().await;
    let request = HeartbeatRequest { worker: 9, ..HeartbeatRequest::default() };
    let reply = fixture.registry.clone().heartbeat(request).await.unwrap().into_inner();
    assert_eq!(reply.freed_inodes, [entry.inode]);
    assert!(store.stat(b"a").await.unwrap().is_none());
}

#[test]
fn metrics_have_distinct_names_and_help() {
    let mut names: Vec<_> = forebay_master::metrics::ALL.iter().map(|(name, ..)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), forebay_master::metrics::ALL.len());
    for (name, _, unit, help) in forebay_master::metrics::ALL {
        assert!(name.starts_with("forebay_master_") && !unit.is_empty() && !help.is_empty(), "{name}");
    }
}
