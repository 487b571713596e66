//! Listings: order, pages, places to go on from, one name with two objects.

use super::Suite;
use crate::{ListCursor, ListEntry, ListKey, ObjectKind};
use futures::{StreamExt, stream};

pub(super) async fn run(suite: &Suite) {
    order_and_pages(suite).await;
    any_place_to_go_on(suite).await;
    changes_between_pages(suite).await;
    missing(suite).await;
    if suite.holds.side_by_side {
        file_beside_directory(suite).await;
    }
}

/// `a-b` and `a.c` lie between the file `a0`'s neighbours and the directory `a/`, which sorts by its slash.
const ENTRIES: [&str; 12] = ["A", "a!/", "a-b", "a-c/", "a.c", "a/", "a0", "aa/", "b", "b.d/", "z", "é"];

async fn fill(suite: &Suite, directory: &str) {
    for entry in ENTRIES {
        match entry.strip_suffix('/') {
            Some(name) => {
                suite.put(&format!("{directory}/{name}/x"), "x").await;
                suite.put(&format!("{directory}/{name}/y/z"), "x").await;
            }
            None => {
                suite.put(&format!("{directory}/{entry}"), entry).await;
            }
        }
    }
}

async fn order_and_pages(suite: &Suite) {
    fill(suite, "cf-order").await;
    suite.put("cf-order-neighbour/x", "x").await;
    for limit in [1, 2, 3, 5, 12, 13, 1000] {
        assert_eq!(suite.list("cf-order", limit).await, ENTRIES, "pages of {limit}");
    }
    assert_eq!(suite.list("cf-order/a", 10).await, ["x", "y/"]);
    let page = suite.list_from("cf-order", None, 1000).await;
    assert_eq!(page.skipped.count, 0, "{:?}", page.skipped);
    assert_eq!(page.hidden, []);
    let file = page.entries.iter().find(|entry| &entry.name[..] == b"a-b").expect("a-b");
    let meta = suite.stat("cf-order/a-b").await.expect("a-b");
    assert_eq!((file.meta.kind, file.meta.length), (ObjectKind::File, 3));
    assert_eq!(file.meta.tag, meta.tag, "list and stat name one version alike");
    assert!(file.meta.modified_ms.abs_diff(meta.modified_ms) < 1000, "{file:?} {meta:?}");
    suite.clear("cf-order-neighbour").await;
    suite.clear("cf-order").await;
}

async fn any_place_to_go_on(suite: &Suite) {
    fill(suite, "cf-from").await;
    let extra = ["", "a", "a-", "a-zzz", "a/", "aa0", "zz", "\u{10ffff}"];
    for place in ENTRIES.iter().chain(&extra) {
        let cursor = ListCursor::after(ListKey(place.as_bytes().to_vec().into()));
        let page = suite.list_from("cf-from", Some(&cursor), 1000).await;
        let got: Vec<String> = page.entries.iter().map(super::shown).collect();
        let wanted: Vec<&str> = ENTRIES.into_iter().filter(|entry| entry > place).collect();
        assert_eq!(got, wanted, "after {place:?}");
        assert_eq!(page.next, None);
    }
    suite.clear("cf-from").await;
}

async fn changes_between_pages(suite: &Suite) {
    for name in ["a", "b", "c", "d", "e", "f"] {
        suite.put(&format!("cf-moving/{name}"), name).await;
    }
    let page = suite.list_from("cf-moving", None, 3).await;
    let next = page.next.expect("there is more");
    let last = page.entries.last().expect("entries").list_key();
    assert_eq!(*next.list_key(), last, "the cursor names the last place");
    suite.delete_file("cf-moving/c").await;
    suite.delete_file("cf-moving/d").await;
    suite.put("cf-moving/aa", "new").await;
    let page = suite.list_from("cf-moving", Some(&next), 100).await;
    let got: Vec<String> = page.entries.iter().map(super::shown).collect();
    assert!(got == ["e", "f"] || got == ["d", "e", "f"], "{got:?}");
    suite.clear("cf-moving").await;
}

async fn missing(suite: &Suite) {
    match suite.store.list(b"cf-none/deeper", None, 10).await {
        Ok(page) => assert_eq!((page.entries, page.next), (Vec::new(), None)),
        Err(error) => assert!(matches!(error, crate::UfsError::NotFound(_)), "{error:?}"),
    }
}

/// Files with bytes hide directories, directories hide empty files: in listings of any page length, and in stat.
async fn file_beside_directory(suite: &Suite) {
    for (key, body) in [
        ("full", "bytes"),
        ("full!", "x"),
        ("full-2", "x"),
        ("full-3", "x"),
        ("full/x", "x"),
        ("hollow", ""),
        ("hollow!", "x"),
        ("hollow-2", ""),
        ("hollow/x", "x"),
        ("zero", ""),
    ] {
        suite.put(&format!("cf-both/{key}"), body).await;
    }
    let shown = ["full", "full!", "full-2", "full-3", "hollow!", "hollow-2", "hollow/", "zero"];
    for limit in 1..=11 {
        let mut entries = Vec::new();
        let mut hidden = Vec::new();
        let mut from = None;
        loop {
            let page = suite.list_from("cf-both", from.as_ref(), limit).await;
            entries.extend(page.entries.iter().map(super::shown));
            hidden.extend(page.hidden);
            from = page.next.map(|next| ListCursor::after(next.list_key().clone()));
            if from.is_none() {
                break;
            }
        }
        assert_eq!(entries, shown, "pages of {limit}");
        let wanted = [("full", ObjectKind::Directory), ("hollow", ObjectKind::File)];
        hidden.sort_by(|a: &crate::Hidden, b| a.name.cmp(&b.name));
        let kinds: Vec<_> = hidden.iter().map(|hidden| (&hidden.name[..], hidden.meta.kind)).collect();
        assert_eq!(kinds, wanted.map(|(name, kind)| (name.as_bytes(), kind)), "pages of {limit}");
    }
    assert_eq!(suite.stat("cf-both/full").await.expect("full").kind, ObjectKind::File);
    assert!(suite.stat("cf-both/hollow").await.expect("hollow").is_directory());
    assert_eq!(suite.stat("cf-both/zero").await.expect("zero").kind, ObjectKind::File);
    for key in ["full/x", "hollow", "hollow/x"] {
        suite.delete_file(&format!("cf-both/{key}")).await;
    }
    suite.clear("cf-both").await;
}

/// See [`super::large_listing`].
pub(super) async fn large(suite: &Suite, count: usize) {
    let keys: Vec<String> = (0..count).map(|number| format!("cf-large/{number:07}")).collect();
    stream::iter(&keys)
        .for_each_concurrent(32, |key| async move {
            suite.put(key, "x").await;
        })
        .await;
    let mut listed = 0;
    let mut last = None;
    let mut from = None;
    loop {
        let page = suite.list_from("cf-large", from.as_ref(), 1000).await;
        for place in page.entries.iter().map(ListEntry::list_key) {
            assert!(last.as_ref() < Some(&place), "{place:?} after {last:?}");
            last = Some(place);
            listed += 1;
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(listed, count);
    suite.clear("cf-large").await;
}
