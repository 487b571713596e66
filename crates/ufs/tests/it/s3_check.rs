//! What is said of a store that cannot be used, and the ways to reach one.

use crate::common::{bucket, open, open_with, options};
use forebay_testkit::s3::{Access, Minio, Moto, Versitygw};
use forebay_ufs::{
    Access as Wanted, AccessKeys, CredentialSource, DeleteTarget, ObjectKind, OpenOptions, PutCondition, Ufs, UfsError,
};
use http::Method;
use std::sync::Arc;

async fn refused(store: Arc<dyn Ufs>) -> UfsError {
    store.check(Wanted::ReadWrite).await.expect_err("the check passed")
}

fn with_keys(access: &Access, id: &str, secret: &str) -> OpenOptions {
    let keys = AccessKeys { access_key_id: id.into(), secret_access_key: secret.into(), session_token: None };
    OpenOptions { credentials: CredentialSource::Keys(keys), ..options(access, &[]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_wrong() {
    let server = Versitygw::start().await.expect("versitygw");
    bucket(&server, "data").await;
    let access = server.access();
    open(access, "s3://data").check(Wanted::ReadWrite).await.expect("all is well");
    assert_eq!(server.client().list("data", "").await.expect("list"), [], "the probe is gone");

    let error = refused(open(access, "s3://other")).await;
    assert!(matches!(error, UfsError::RootMissing(_)), "{error:?}");
    assert!(error.to_string().contains("cannot list s3://other: the bucket does not exist"), "{error}");

    let store = forebay_ufs::open("s3://data", &with_keys(access, &access.access_key, "wrong")).expect("open");
    let error = refused(store).await;
    assert!(matches!(error, UfsError::Denied(_)) && error.to_string().contains("bad credentials"), "{error:?}");
    assert!(!format!("{error:?}").contains("wrong"), "a secret is told: {error:?}");

    let store = forebay_ufs::open("s3://data", &with_keys(access, "nobody", "x")).expect("open");
    let error = refused(store).await;
    assert!(matches!(error, UfsError::Denied(_)) && error.to_string().contains("bad credentials"), "{error:?}");

    let anonymous = OpenOptions { credentials: CredentialSource::Anonymous, ..options(access, &[]) };
    let error = refused(forebay_ufs::open("s3://data", &anonymous).expect("open")).await;
    assert!(matches!(error, UfsError::Denied(_)) && error.to_string().contains("access denied"), "{error:?}");

    let error = refused(open_with(access, "s3://data", &[("region", "eu-north-1")])).await;
    assert!(matches!(error, UfsError::Invalid(_)) && error.to_string().contains("wrong region"), "{error:?}");
    assert_eq!(error.hint(), "set the region to us-east-1");

    let secure = access.endpoint.replace("http://", "https://");
    let error = refused(open_with(access, "s3://data", &[("endpoint", &secure)])).await;
    assert!(error.to_string().contains("no TLS connection"), "{error}");

    let error = refused(open_with(access, "s3://data", &[("endpoint", "http://no-such-host.invalid")])).await;
    assert!(error.to_string().contains("cannot reach http://no-such-host.invalid"), "{error}");
}

/// Whoever may list and read, and not write, is told so, and how the store can be used all the same.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_write_is_told_so() {
    let server = Minio::start().await.expect("minio");
    bucket(&server, "data").await;
    let client = server.client();
    client.put("data", "x", "content").await.expect("put");
    let allow = |actions: &str, resource: &str| {
        format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":["*"]}},"Action":[{actions}],"Resource":["arn:aws:s3:::{resource}"]}}"#
        )
    };
    let set = async |statements: Vec<String>| {
        let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
        let answer =
            client.request(Method::PUT, "data", "", &[("policy", "")], Default::default(), policy.into()).await;
        assert!(answer.expect("policy").status().is_success());
    };
    let anonymous = OpenOptions { credentials: CredentialSource::Anonymous, ..options(server.access(), &[]) };
    let store = forebay_ufs::open("s3://data", &anonymous).expect("open");
    let error = refused(store.clone()).await;
    assert!(error.to_string().contains("access denied") && error.hint().contains("s3:ListBucket"), "{error:?}");

    set(vec![allow(r#""s3:ListBucket""#, "data"), allow(r#""s3:GetObject""#, "data/*")]).await;
    store.check(Wanted::Read).await.expect("reading is allowed");
    let error = refused(store.clone()).await;
    assert!(matches!(error, UfsError::Denied(_)), "{error:?}");
    assert!(error.to_string().contains("cannot write s3://data/.forebay-probe-"), "{error}");
    assert_eq!(error.hint(), "the credentials may not write (s3:PutObject); or mount it with --read-only");

    set(vec![allow(r#""s3:ListBucket""#, "data"), allow(r#""s3:GetObject","s3:PutObject""#, "data/*")]).await;
    let error = refused(store).await;
    assert_eq!(error.hint(), "the credentials may not delete (s3:DeleteObject); or mount it with --read-only");
}

/// Takes TLS connections with a certificate of its own for `localhost` and passes their bytes on; returns its port.
async fn tls_relay(endpoint: &str, ca_file: &std::path::Path) -> u16 {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    std::fs::write(ca_file, made.cert.pem()).expect("write");
    let key = made.signing_key.serialize_der().try_into().expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key))
        .expect("config");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = endpoint.strip_prefix("http://").expect("http").to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((peer, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let Ok(mut peer) = acceptor.accept(peer).await else { return };
                let mut server = tokio::net::TcpStream::connect(server).await.expect("server");
                let _ = tokio::io::copy_bidirectional(&mut peer, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified() {
    let server = Versitygw::start().await.expect("versitygw");
    bucket(&server, "data").await;
    let dir = tempfile::tempdir().expect("temp dir");
    let ca_file = dir.path().join("ca.pem");
    let port = tls_relay(server.endpoint(), &ca_file).await;
    let endpoint = format!("https://localhost:{port}");
    let error = refused(open_with(server.access(), "s3://data", &[("endpoint", &endpoint)])).await;
    assert!(error.to_string().contains("no TLS connection"), "{error}");
    let ca_file = ca_file.to_str().expect("utf-8");
    let trusting = [("endpoint", endpoint.as_str()), ("ca_file", ca_file)];
    open_with(server.access(), "s3://data", &trusting).check(Wanted::ReadWrite).await.expect("trusted");
    let other_name = endpoint.replace("localhost", "127.0.0.1");
    let misled = [("endpoint", other_name.as_str()), ("ca_file", ca_file)];
    let error = refused(open_with(server.access(), "s3://data", &misled)).await;
    assert!(error.to_string().contains("no TLS connection"), "{error}");
    let missing = options(server.access(), &[("endpoint", "https://localhost"), ("ca_file", "/no/such/file")]);
    let error = forebay_ufs::open("s3://data", &missing).expect_err("no file");
    assert!(error.to_string().contains("option ca_file cannot be \"/no/such/file\""), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_files_and_change_with_them() {
    let server = Minio::start().await.expect("minio");
    bucket(&server, "data").await;
    let access = server.access();
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("credentials");
    let write = |secret: &str| {
        let text = format!("[lake]\naws_access_key_id = {}\naws_secret_access_key = {secret}\n", access.access_key);
        std::fs::write(&path, text).expect("write");
    };
    let source = CredentialSource::File { path: path.clone(), profile: "lake".into() };
    let given = OpenOptions { credentials: source, ..options(access, &[("deadline", "2s")]) };
    let store = forebay_ufs::open("s3://data", &given).expect("open");
    let error = store.stat(b"x").await.expect_err("no file");
    assert!(matches!(error, UfsError::Denied(_)) && error.to_string().contains("no credentials"), "{error:?}");
    write("old-secret");
    let error = store.stat(b"x").await.expect_err("an old secret");
    assert!(matches!(error, UfsError::Denied(_)), "{error:?}");
    write(&access.secret_key);
    assert_eq!(store.stat(b"x").await.expect("the new secret is read"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_named_by_the_host_too() {
    let server = Moto::start().await.expect("moto");
    bucket(&server, "data").await;
    let endpoint = server.endpoint().replace("127.0.0.1", "localhost");
    let store = open_with(server.access(), "s3://data", &[("endpoint", &endpoint), ("path_style", "false")]);
    store.put(b"by/host", vec!["x".into()], &PutCondition::None).await.expect("put");
    let stored = server.client().get("data", "by/host").await.expect("get");
    assert_eq!(stored, "x");
}

/// Keys that no tree can have are skipped and counted; those beside them are shown, and none of them is ever touched.
#[tokio::test(flavor = "multi_thread")]
async fn odd_keys_are_skipped_and_left_alone() {
    let server = Moto::start().await.expect("moto");
    bucket(&server, "data").await;
    let long = "x".repeat(300);
    let odd = ["d//x", "d/./x", "d/../y", "/lead", "d/trail//", "./", "../up", long.as_str()];
    for key in odd.iter().chain(&["d/good", "d/control\u{1}", "e/"]) {
        server.client().put("data", key, "x").await.expect("put");
    }
    let store = open(server.access(), "s3://data");
    let page = store.list(b"", None, 100).await.expect("list");
    let names: Vec<_> = page.entries.iter().map(|entry| (&entry.name[..], entry.meta.kind)).collect();
    assert_eq!(names, [(&b"d"[..], ObjectKind::Directory), (&b"e"[..], ObjectKind::Directory)]);
    // "/", "./", "../" and the long one.
    assert_eq!(page.skipped.count, 4, "{:?}", page.skipped);
    let page = store.list(b"d", None, 100).await.expect("list");
    let names: Vec<_> = page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name)).collect();
    assert_eq!(names, ["control\u{1}", "good", "trail"]);
    assert_eq!(page.skipped.count, 3, "{:?}", page.skipped);
    for key in ["d/good", "d/control\u{1}"] {
        store.delete(&[DeleteTarget::file(key), DeleteTarget::file("d/none")]).await.expect("delete");
        assert_eq!(store.stat(key.as_bytes()).await.expect("stat"), None, "{key:?}");
    }
    for key in odd {
        assert_eq!(server.client().get("data", key).await.expect("get"), "x", "{key}");
    }
}

/// Blanks at the ends are part of a key: two objects, not one.
#[tokio::test(flavor = "multi_thread")]
async fn blanks_are_part_of_keys() {
    let server = Moto::start().await.expect("moto");
    bucket(&server, "data").await;
    let store = open(server.access(), "s3://data");
    for key in ["a", "a ", " a", " a "] {
        store.put(key.as_bytes(), vec![key.into()], &PutCondition::IfAbsent).await.expect("put");
    }
    let targets = ["a ", " a"].map(DeleteTarget::file);
    for result in store.delete(&targets).await.expect("delete") {
        result.expect("deleted");
    }
    let page = store.list(b"", None, 10).await.expect("list");
    let names: Vec<_> = page.entries.iter().map(|entry| &entry.name[..]).collect();
    assert_eq!(names, [&b" a "[..], b"a"]);
}

/// Long objects are copied in parts, and a copy that fails leaves no upload behind.
#[tokio::test(flavor = "multi_thread")]
async fn long_objects_are_copied_in_parts() {
    for server in [Versitygw::start().await.expect("versitygw"), Minio::start().await.expect("minio")] {
        bucket(&server, "data").await;
        let store = open_with(server.access(), "s3://data", &[("copy_part_size", "5MiB")]);
        let body: Vec<u8> = (0..12 << 20).map(|at: usize| (at / 1000) as u8).collect();
        let meta = store.put(b"long", vec![body.clone().into()], &PutCondition::None).await.expect("put");
        let copied = store.copy(b"long", b"copy", &meta.expected(), &PutCondition::IfAbsent).await.expect("copy");
        assert!(copied.tag.0.ends_with("-3"), "{}", copied.tag);
        let stored = server.client().get("data", "copy").await.expect("get");
        assert!(stored == body, "other bytes");
        let again = store.copy(b"long", b"copy", &meta.expected(), &PutCondition::IfAbsent).await;
        assert!(matches!(again, Err(UfsError::AlreadyExists(_))), "{again:?}");
        assert_eq!(server.client().uploads("data").await.expect("uploads"), []);
    }
}

/// A file put into versitygw's directory behind its back has no ETag: it gets a version of time and length.
#[tokio::test(flavor = "multi_thread")]
async fn objects_without_etag_have_versions() {
    let server = Versitygw::start().await.expect("versitygw");
    bucket(&server, "data").await;
    std::fs::write(server.data_dir().join("data/behind"), "content").expect("write");
    let store = open(server.access(), "s3://data");
    let meta = store.stat(b"behind").await.expect("stat").expect("the file");
    assert!(!meta.tag.is_unknown());
    let page = store.list(b"", None, 10).await.expect("list");
    assert_eq!(page.entries[0].meta.tag, meta.tag);
    let stream = store.read(b"behind", 0..7, &meta.expected()).await.expect("read");
    let chunks: Vec<bytes::Bytes> = futures::TryStreamExt::try_collect(stream).await.expect("bytes");
    assert_eq!(chunks.concat(), b"content");
    let mut other = meta.expected();
    other.length = 5;
    let read = store.read(b"behind", 0..5, &other).await;
    assert!(matches!(read.err(), Some(UfsError::VersionChanged(_))));
}

/// Versions behind a key do not show: a listing names each key once, and a deleted one not at all.
#[tokio::test(flavor = "multi_thread")]
async fn versioned_buckets_show_the_newest() {
    let options = forebay_testkit::s3::Options { versioning: true, ..Default::default() };
    let server = Versitygw::start_with(&options).await.expect("versitygw");
    bucket(&server, "data").await;
    let on = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let client = server.client();
    let enabled = client.request(Method::PUT, "data", "", &[("versioning", "")], Default::default(), on.into()).await;
    assert!(enabled.expect("versioning").status().is_success());
    let store = open(server.access(), "s3://data");
    let old = store.put(b"a", vec!["old".into()], &PutCondition::None).await.expect("put");
    store.put(b"a", vec!["newer".into()], &PutCondition::None).await.expect("put");
    store.put(b"b", vec!["b".into()], &PutCondition::None).await.expect("put");
    store.delete(&[DeleteTarget::file("b")]).await.expect("delete");
    let page = store.list(b"", None, 10).await.expect("list");
    let names: Vec<_> = page.entries.iter().map(|entry| (&entry.name[..], entry.meta.length)).collect();
    assert_eq!(names, [(&b"a"[..], 5)]);
    assert_eq!(store.stat(b"b").await.expect("stat"), None);
    let read = store.read(b"a", 0..3, &old.expected()).await;
    assert!(matches!(read.err(), Some(UfsError::VersionChanged(_))));
}

/// Somebody's marker that has bytes stays as it is when the directory is made, and moves along with them.
#[tokio::test(flavor = "multi_thread")]
async fn markers_keep_their_bytes() {
    let server = Minio::start().await.expect("minio");
    bucket(&server, "data").await;
    server.client().put("data", "d/", "bytes").await.expect("put");
    let store = open(server.access(), "s3://data");
    store.make_directory(b"d").await.expect("make");
    assert_eq!(server.client().get("data", "d/").await.expect("get"), "bytes");
    let marker = store.stat_object(b"d", ObjectKind::Directory).await.expect("stat").expect("the marker");
    store.copy_marker(b"d", b"e", &marker.expected(), &PutCondition::IfAbsent).await.expect("copy");
    assert_eq!(server.client().get("data", "e/").await.expect("get"), "bytes");
}
