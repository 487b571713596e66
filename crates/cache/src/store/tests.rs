//! The page store on real directories.

mod disks;
mod fixture;
mod leases;
mod pages;
mod restart;
mod stress;
mod tiers;
