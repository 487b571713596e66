//! docs/stores.md says what the code does.

use forebay_ufs::{OpenOptions, UfsError};

const STORES: &str = include_str!("../../../../docs/stores.md");

/// The names in the first column of the table of a section.
fn options_of(section: &str) -> Vec<String> {
    let text = STORES.split("\n## ").find(|text| text.starts_with(section)).expect(section);
    text.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_option_is_documented_and_every_documented_one_exists() {
    let documented = options_of("`s3://");
    for name in &documented {
        let given = OpenOptions { options: [(name.clone(), "\u{1}".to_owned())].into(), ..OpenOptions::default() };
        if let Err(error) = forebay_ufs::open("s3://bucket", &given) {
            assert!(!error.to_string().contains("unknown option"), "{error}");
        }
    }
    let unknown = OpenOptions { options: [("%".to_owned(), String::new())].into(), ..OpenOptions::default() };
    let error = forebay_ufs::open("s3://bucket", &unknown).expect_err("unknown");
    assert!(matches!(error, UfsError::Invalid(_)));
    let known = error.hint().strip_prefix("known options: ").expect("the list");
    let (known, _of_all_mounts) = known.split_once("; ").expect("what else a mount takes");
    let mut documented: Vec<&str> = documented.iter().map(String::as_str).collect();
    documented.sort();
    assert_eq!(known.split(", ").collect::<Vec<_>>(), documented);
}
