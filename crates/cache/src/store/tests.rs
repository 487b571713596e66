//! The page store on real directories.

mod disks;
mod fixture;
mod leases;
mod moves;
mod pages;
mod restart;
mod stress;
mod tiers;
