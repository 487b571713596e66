//! Each S3 server starts, stores, lists, and is gone when dropped.

use anyhow::Result;
use bytes::Bytes;
use forebay_testkit::data::Seeded;
use forebay_testkit::s3::{Minio, Moto, Options, S3Server, Versitygw};
use http::{HeaderMap, Method, StatusCode};

async fn stores_and_lists(server: &S3Server) -> Result<()> {
    server.create_bucket("lake").await?;
    server.create_bucket("lake").await?;
    let client = server.client();
    let body = Seeded::new(1).bytes(0..100_000);
    let etag = client.put("lake", "a/odd name+%é.bin", body.clone()).await?;
    client.put("lake", "b", "short").await?;

    assert_eq!(client.get("lake", "a/odd name+%é.bin").await?, body);
    let head = client.head("lake", "a/odd name+%é.bin").await?.expect("it was stored");
    assert_eq!((head.size, &head.etag), (100_000, &etag));
    assert_eq!(client.head("lake", "c").await?, None);

    let keys: Vec<String> = client.list("lake", "").await?.into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["a/odd name+%é.bin", "b"]);
    assert_eq!(client.list("lake", "a/").await?[0].etag, etag);

    client.delete("lake", "b").await?;
    client.delete("lake", "b").await?;
    assert_eq!(client.list("lake", "b").await?, []);
    Ok(())
}

async fn shows_uploads(server: &S3Server) -> Result<()> {
    server.create_bucket("parts").await?;
    let client = server.client();
    assert_eq!(client.uploads("parts").await?, []);
    let begun =
        client.request(Method::POST, "parts", "big", &[("uploads", "")], HeaderMap::new(), Bytes::new()).await?;
    assert_eq!(begun.status(), StatusCode::OK);
    let uploads = client.uploads("parts").await?;
    assert_eq!(uploads.len(), 1);
    assert_eq!(uploads[0].key, "big");
    Ok(())
}

#[tokio::test]
async fn versitygw() -> Result<()> {
    let server = Versitygw::start().await?;
    stores_and_lists(&server).await?;
    shows_uploads(&server).await?;
    assert!(server.data_dir().join("lake/a").is_dir());

    let mut stranger = server.access().clone();
    stranger.secret_key.push('x');
    assert!(stranger.client().list("lake", "").await.is_err());
    Ok(())
}

#[tokio::test]
async fn versitygw_in_another_region_pages_its_listings() -> Result<()> {
    let options = Options { region: "eu-west-1".to_owned(), ..Options::default() };
    let server = Versitygw::start_with(&options).await?;
    server.create_bucket("many").await?;
    let client = server.client();
    for index in 0..1_100 {
        client.put("many", &format!("k{index:04}"), "").await?;
    }
    let objects = client.list("many", "").await?;
    assert_eq!(objects.len(), 1_100);
    assert_eq!(objects[1_099].key, "k1099");
    Ok(())
}

#[tokio::test]
async fn minio() -> Result<()> {
    let server = Minio::start().await?;
    stores_and_lists(&server).await?;
    shows_uploads(&server).await
}

#[tokio::test]
async fn moto_stores_what_no_file_system_can() -> Result<()> {
    let server = Moto::start().await?;
    stores_and_lists(&server).await?;
    shows_uploads(&server).await?;
    let client = server.client();
    server.create_bucket("odd").await?;
    for key in ["a", "a/b", "x//y", "up/../down"] {
        client.put("odd", key, key.to_owned()).await?;
        assert_eq!(client.get("odd", key).await?, key);
    }
    let keys: Vec<String> = client.list("odd", "").await?.into_iter().map(|object| object.key).collect();
    assert_eq!(keys, ["a", "a/b", "up/../down", "x//y"]);
    Ok(())
}

#[tokio::test]
async fn a_dropped_server_is_gone() -> Result<()> {
    let mut server = Versitygw::start().await?;
    let pid = server.process().pid();
    let dir = server.data_dir().to_owned();
    drop(server);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!dir.exists());
    Ok(())
}
