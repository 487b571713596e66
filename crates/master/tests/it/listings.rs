//! Listings while the directory changes.

use crate::followers::Group;
use crate::support::{Fixture, Home};
use futures::future::join_all;
use std::sync::atomic::{AtomicBool, Ordering};

const RENAMES: usize = 300;
/// Entries of a full page.
const PAGE_LEN: usize = 1000;

/// First of all names or last of all.
async fn rename_to_and_fro(fixture: &Fixture, over: &AtomicBool) {
    for n in 0..RENAMES {
        let (from, to) = if n % 2 == 0 { ("/d/0", "/d/z") } else { ("/d/z", "/d/0") };
        fixture.rename(from, to).await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
}

/// It has one name or the other: never both, never none.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_one_page_shows_one_moment() {
    for others in [0, PAGE_LEN - 1] {
        let home = Home::new();
        let fixture = home.start().await;
        fixture.mkdir("/d/0").await.unwrap();
        let names: Vec<String> = (0..others).map(|n| format!("/d/m{n}")).collect();
        join_all(names.iter().map(|name| fixture.mkdir(name))).await.into_iter().for_each(|made| drop(made.unwrap()));
        let over = AtomicBool::new(false);
        let look = async {
            while !over.load(Ordering::Relaxed) {
                let names = fixture.names("/d").await;
                assert_eq!(names.len(), others + 1, "{:?} … {:?}", names.first(), names.last());
            }
        };
        tokio::join!(rename_to_and_fro(&fixture, &over), look);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_one_page_by_a_follower_shows_one_moment() {
    let mut group = Group::start().await;
    let (at, leader) = group.leader().await;
    let reader = group.reader((at + 1) % 3);
    leader.mkdir("/d/0").await.unwrap();
    let over = AtomicBool::new(false);
    let look = async {
        while !over.load(Ordering::Relaxed) {
            let names = reader.names_now("/d", 0).await.unwrap();
            assert_eq!(names.len(), 1, "{names:?}");
        }
    };
    tokio::join!(rename_to_and_fro(&leader, &over), look);
    group.shutdown(leader).await;
}
