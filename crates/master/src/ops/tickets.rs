//! Tickets for readers and writers.

use crate::core::Core;
use crate::data_dir::Keys;
use crate::mounts::Mounted;
use crate::settings::Settings;
use bytes::Bytes;
use forebay_namespace::record::WriteType;
use forebay_namespace::{Inode, Write};
use forebay_proto::parts::PART_SIZE_MAX;
use forebay_proto::ticket::Ticket;
use std::ops::RangeInclusive;

/// A signed ticket and its end.
pub(crate) struct Signed {
    pub(crate) ticket: Bytes,
    pub(crate) expires_ms: u64,
}

/// Lets its holder read this version of a file.
pub(crate) fn for_reading(settings: &Settings, keys: &Keys, inode: &Inode, mount: u32, key: Bytes) -> Signed {
    let ticket = Ticket {
        inode: inode.id,
        version: inode.version,
        length: inode.length,
        page_size: inode.page_size(),
        block_size: inode.block_size(),
        mount,
        key,
        version_tag: inode.tag.clone(),
        modified_ms: inode.modified_ms,
        read: true,
        ..Ticket::default()
    };
    sign(settings, keys, ticket)
}

/// Lets its holder send parts of this write. It names the upload once that has begun.
pub(crate) fn for_writing(core: &Core, write: &Write, part_size: u64) -> Signed {
    let ticket = Ticket {
        inode: write.inode,
        version: write.version,
        page_size: write.page_size,
        block_size: write.block_size,
        mount: write.mount,
        key: write.key.clone(),
        version_tag: write.base_tag.clone(),
        write: true,
        upload: write.upload.clone(),
        cache_writes: write.write_type() == WriteType::CacheThrough,
        part_size,
        ..Ticket::default()
    };
    sign(&core.settings, &core.keys, ticket)
}

fn sign(settings: &Settings, keys: &Keys, ticket: Ticket) -> Signed {
    let lifetime_ms = settings.ticket_lifetime.as_millis() as u64;
    let expires_ms = settings.clock.now().0.saturating_add(lifetime_ms);
    let ticket = Ticket { expires_ms, ..ticket };
    Signed { ticket: ticket.sign(&keys.ticket_key), expires_ms }
}

/// Bytes of the first part of a write: the greatest divisor of the block into whole pages that the setting and the store allow.
pub(crate) fn part_size(core: &Core, mount: &Mounted, block_size: u64, page_size: u32) -> u64 {
    let wanted = mount.part_size().unwrap_or(core.settings.part_size.bytes());
    let (least, most) = mount.store().map_or((1, u64::MAX), |store| {
        let able = store.capabilities();
        (able.part_len_min, able.part_len_max)
    });
    let most = most.clamp(least, PART_SIZE_MAX.max(least));
    divisor(block_size, u64::from(page_size), wanted.clamp(least, most), least..=most)
}

/// The greatest divisor of `block` that is a multiple of `page` and at most `wanted`; when all of those are too small to be sent, the smallest that is not;
/// when the block itself is, the least number of whole blocks; and when that is too large, as many whole pages as are wanted, wherever they end
/// in the block.
fn divisor(block: u64, page: u64, wanted: u64, allowed: RangeInclusive<u64>) -> u64 {
    let least = *allowed.start();
    let pages = block / page;
    let divisors = (1..=pages)
        .take_while(|n| n * n <= pages)
        .filter(|n| pages.is_multiple_of(*n))
        .flat_map(|n| [n, pages / n])
        .map(|n| n * page);
    let fitting: Vec<u64> = divisors.filter(|size| allowed.contains(size)).collect();
    let below = fitting.iter().filter(|size| **size <= wanted).max();
    let blocks = Some(block.saturating_mul(least.div_ceil(block))).filter(|size| allowed.contains(size));
    let pages = || (wanted / page).max(least.div_ceil(page)).max(1) * page;
    below.or(fitting.iter().min()).copied().or(blocks).unwrap_or_else(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_divide_blocks_into_whole_pages() {
        const MIB: u64 = 1 << 20;
        let check = |block, page, wanted, least, part| {
            let found = divisor(block * MIB, page * MIB, wanted * MIB, least..=PART_SIZE_MAX);
            assert_eq!(found, part * MIB, "a block of {block}, pages of {page}, wanted {wanted}");
        };
        check(4, 1, 16, 5 * MIB, 8);
        check(64, 1, 16, 5 * MIB, 16);
        check(60, 1, 16, 5 * MIB, 15);
        check(64, 64, 16, 5 * MIB, 64);
        check(7, 1, 5, 5 * MIB, 7);
        check(4, 1, 16, 1, 4);
        // No divisor of such a block can be sent.
        check(67, 1, 16, 5 * MIB, 16);
        check(128, 32, 64, 5 * MIB, 64);
        check(63, 1, 64, 5 * MIB, 63);
    }
}
