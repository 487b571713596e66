//! Large Parquet files: a table of trips with an id, a time, a place, a distance and a fare.

use std::sync::Arc;

use bytes::Bytes;
use forebay_testkit::data::Seeded;
use parquet::data_type::{DoubleType, Int32Type, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::dataset::Dataset;

const SCHEMA: &str = "message trips {
    required int64 id;
    required int64 begun (TIMESTAMP(MILLIS, true));
    required int32 place;
    required double distance_km;
    required double fare;
}";

const ROW_GROUPS: usize = 8;
const ROWS_PER_GROUP: usize = 160_000;

/// Four files of about 46 MB.
pub(crate) fn dataset() -> Dataset {
    Dataset { count: 4, make: file }
}

fn file(index: usize) -> (String, Bytes) {
    let key = format!("trips/month={:02}/part-0.parquet", index + 1);
    let bytes = write(index).expect("writing Parquet into memory fails on a wrong schema only");
    (key, bytes.into())
}

fn write(index: usize) -> Result<Vec<u8>> {
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    // Random values gain nothing from a dictionary.
    let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties))?;
    for group in 0..ROW_GROUPS {
        let first = ((index * ROW_GROUPS + group) * ROWS_PER_GROUP) as i64;
        let random = random_numbers(first as u64);
        let mut row_group = writer.next_row_group()?;
        let ids: Vec<i64> = (first..).take(ROWS_PER_GROUP).collect();
        column::<Int64Type>(&mut row_group, &ids)?;
        let begun: Vec<i64> = ids.iter().map(|id| 1_767_225_600_000 + id * 523).collect();
        column::<Int64Type>(&mut row_group, &begun)?;
        let places: Vec<i32> = random.iter().map(|random| (random % 263) as i32).collect();
        column::<Int32Type>(&mut row_group, &places)?;
        let distances: Vec<f64> = random.iter().map(|random| (random >> 40) as f64 / 1e5).collect();
        column::<DoubleType>(&mut row_group, &distances)?;
        let fares: Vec<f64> =
            distances.iter().zip(&random).map(|(km, random)| 3.0 + km * 2.5 + (random % 997) as f64 / 1e2).collect();
        column::<DoubleType>(&mut row_group, &fares)?;
        row_group.close()?;
    }
    writer.close()?;
    Ok(bytes)
}

fn column<T: parquet::data_type::DataType>(
    group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>,
    values: &[T::T],
) -> Result<()> {
    let mut column =
        group.next_column()?.ok_or_else(|| parquet::errors::ParquetError::General("one column too many".to_owned()))?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

fn random_numbers(seed: u64) -> Vec<u64> {
    let bytes = Seeded::new(seed).bytes(0..8 * ROWS_PER_GROUP as u64);
    bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("a chunk has eight bytes"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    #[test]
    fn the_file_is_read_back_by_a_parquet_reader() {
        let (key, bytes) = file(1);
        assert_eq!(key, "trips/month=02/part-0.parquet");
        let reader = SerializedFileReader::new(bytes).unwrap();
        let metadata = reader.metadata().file_metadata();
        assert_eq!(metadata.num_rows() as usize, ROW_GROUPS * ROWS_PER_GROUP);
        let row = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
        assert_eq!(row.get_long(0).unwrap() as usize, ROW_GROUPS * ROWS_PER_GROUP);
        assert!(row.get_double(4).unwrap() >= 3.0);
    }
}
