//! Small images, as for training: PPM files of 100 KB, each of its own random pixels.

use bytes::Bytes;
use forebay_testkit::data::Seeded;

use crate::dataset::Dataset;

const WIDTH: u64 = 182;
const HEIGHT: u64 = 183;

/// 2,000 images in 20 classes, 200 MB.
pub(crate) fn dataset() -> Dataset {
    Dataset { count: 2_000, make: image }
}

fn image(index: usize) -> (String, Bytes) {
    let key = format!("train/class-{:02}/{index:05}.ppm", index % 20);
    let mut bytes = format!("P6\n{WIDTH} {HEIGHT}\n255\n").into_bytes();
    bytes.extend(Seeded::named(&key).bytes(0..WIDTH * HEIGHT * 3));
    (key, bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_header_and_all_its_pixels() {
        let (key, bytes) = image(41);
        assert_eq!(key, "train/class-01/00041.ppm");
        let header = b"P6\n182 183\n255\n";
        assert!(bytes.starts_with(header));
        assert_eq!(bytes.len(), header.len() + 182 * 183 * 3);
        assert_ne!(image(42).1, bytes);
    }
}
