//! How RocksDB is set up.

use forebay_base::ByteSize;
use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, Options};

/// The bounds of a store's memory. The defaults suit a machine of 4 GiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksSettings {
    /// Blocks of data, indexes and filters kept in memory; the least recently used go.
    pub block_cache: ByteSize,
    /// One memtable; when it is full it is written out in the background.
    pub write_buffer: ByteSize,
    /// Memtables in memory at most; writers wait when all are full.
    pub write_buffers: u32,
    /// Files that RocksDB keeps open at most.
    pub open_files: u32,
}

impl Default for RocksSettings {
    fn default() -> RocksSettings {
        RocksSettings {
            block_cache: ByteSize::mib(256),
            write_buffer: ByteSize::mib(32),
            write_buffers: 3,
            open_files: 512,
        }
    }
}

impl RocksSettings {
    pub(super) fn options(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&self.tables());
        options.set_write_buffer_size(self.write_buffer.bytes() as usize);
        options.set_max_write_buffer_number(self.write_buffers.max(2) as i32);
        options.set_max_open_files(self.open_files as i32);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        options.set_max_background_jobs(2);
        // Keeps a compaction from starving the log's syncs on a shared disk.
        options.set_bytes_per_sync(1 << 20);
        options.set_max_log_file_size(8 << 20);
        options.set_keep_log_file_num(4);
        options
    }

    fn tables(&self) -> BlockBasedOptions {
        let cache = Cache::new_lru_cache(self.block_cache.bytes() as usize);
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&cache);
        tables.set_block_size(8 << 10);
        tables.set_format_version(6);
        // 10 bits a key: one get in a hundred of an absent key reads a block.
        tables.set_bloom_filter(10.0, false);
        // Indexes and filters count against the cache, so that memory does not grow with the number of inodes.
        tables.set_cache_index_and_filter_blocks(true);
        tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
        tables.set_index_type(rocksdb::BlockBasedIndexType::TwoLevelIndexSearch);
        tables.set_partition_filters(true);
        tables.set_metadata_block_size(4 << 10);
        tables
    }
}
