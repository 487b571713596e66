//! The consensus as its users see it: one member, groups of several, crashes, full disks, bad networks.

#![allow(unreachable_pub, clippy::unwrap_used)]

mod changes;
mod forming;
mod full_disk;
mod group;
mod kill;
mod leads;
mod ledger;
mod losses;
mod member;
mod restored;
