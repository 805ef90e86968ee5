//! What a killed process, a person or a bad disk leaves behind: it is repaired, or it is named.

use std::io::Write;
use std::time::Duration;

use evidence::{Repairs, Store};

use crate::support::{Folder, NOON, add_good, line};

/// A folder with two sealed segments of ten events each.
fn two_segments() -> Folder {
    let folder = Folder::new();
    let mut store = folder.open(NOON);
    for turn in 0..2 {
        let at = NOON + Duration::from_mins(turn);
        add_good(&mut store, at, 10);
        store.finish(at + Duration::from_secs(30)).unwrap();
    }
    folder
}

fn open(folder: &Folder) -> Repairs {
    Store::open(folder.options(), NOON + Duration::from_mins(9)).unwrap().1
}

#[test]
fn a_line_that_was_cut_in_the_middle_is_removed_and_the_segment_is_sealed() {
    let folder = Folder::new();
    let mut store = folder.open(NOON);
    add_good(&mut store, NOON, 10);
    drop(store);
    let half = &line(NOON, "good", "/v1/orders", 10)[..40];
    let mut file = std::fs::OpenOptions::new().append(true).open(folder.file("00000001.jsonl")).unwrap();
    file.write_all(half.as_bytes()).unwrap();
    assert_eq!(folder.count(""), (10, 10), "a reader leaves the unfinished line out");
    assert_eq!(open(&folder), Repairs { sealed: 1, cut: 40, broken: 0 });
    assert_eq!(folder.count(""), (10, 10));
    assert_eq!(folder.faults(), [""; 0]);
    assert_eq!(open(&folder), Repairs::default(), "nothing is left to repair");
}

#[test]
fn a_segment_that_was_half_sealed_is_sealed_again() {
    for leftover in ["00000003.jsonl.gz.tmp", "00000003.jsonl.gz"] {
        let folder = two_segments();
        std::fs::write(folder.file("00000003.jsonl"), line(NOON, "bad", "/v1/orders", 1)).unwrap();
        std::fs::write(folder.file(leftover), b"\x1f\x8b half").unwrap();
        assert_eq!(open(&folder), Repairs { sealed: 1, ..Repairs::default() });
        assert_eq!(folder.count(""), (21, 21));
        assert_eq!(folder.faults(), [""; 0], "{leftover}");
    }
}

#[test]
fn a_line_of_the_manifest_that_was_cut_in_the_middle_is_written_again() {
    let folder = two_segments();
    let manifest = std::fs::read(folder.file("manifest.jsonl")).unwrap();
    std::fs::write(folder.file("manifest.jsonl"), &manifest[..manifest.len() - 100]).unwrap();
    assert_eq!(open(&folder), Repairs { sealed: 1, ..Repairs::default() });
    assert_eq!(folder.count(""), (20, 20));
    assert_eq!(folder.faults(), [""; 0]);
}

#[test]
fn a_file_whose_expiry_was_written_and_that_was_not_removed_is_removed_at_the_next_start() {
    let folder = two_segments();
    let copy = std::fs::read(folder.file("00000001.jsonl")).unwrap();
    let late = NOON + Duration::from_hours(25);
    drop(folder.open(late));
    std::fs::write(folder.file("00000001.jsonl"), copy).unwrap();
    let (_, repairs) = Store::open(folder.options(), late).unwrap();
    assert_eq!(repairs, Repairs::default(), "its events are not recorded twice");
    assert!(!folder.file("00000001.jsonl").exists());
}

#[test]
fn foreign_files_and_lines_are_left_alone() {
    let folder = two_segments();
    std::fs::write(folder.file("notes.txt"), b"mine").unwrap();
    std::fs::write(folder.file("7.jsonl"), b"{\"timestamp\":\"not ours\"}\n").unwrap();
    std::fs::create_dir(folder.file("00000009.jsonl")).unwrap();
    std::fs::write(folder.file("00000004.jsonl"), b"garbage\n\xff\xfe\n{\"a\":1}\n").unwrap();
    assert_eq!(open(&folder), Repairs { sealed: 1, ..Repairs::default() });
    assert_eq!(folder.count(""), (20, 20));
    assert_eq!(folder.faults(), [""; 0]);
    assert_eq!(std::fs::read(folder.file("notes.txt")).unwrap(), b"mine");
    assert!(folder.file("00000009.jsonl").is_dir());
}

#[test]
fn one_altered_byte_is_named_with_its_file_and_seal() {
    for (name, expected) in [
        ("00000001.jsonl", "00000001.jsonl Some(1): the content was altered"),
        ("00000002.jsonl.gz", "00000002.jsonl.gz Some(2): the content was altered"),
    ] {
        let folder = two_segments();
        let mut bytes = std::fs::read(folder.file(name)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(folder.file(name), bytes).unwrap();
        assert_eq!(folder.faults(), [expected]);
        assert_eq!(open(&folder), Repairs::default(), "the service starts all the same");
        folder.count("");
    }
}

#[test]
fn every_altered_byte_of_the_manifest_is_found() {
    let folder = two_segments();
    let whole = std::fs::read(folder.file("manifest.jsonl")).unwrap();
    for at in 0..whole.len() - 1 {
        let mut altered = whole.clone();
        altered[at] ^= 1;
        std::fs::write(folder.file("manifest.jsonl"), &altered).unwrap();
        assert!(!folder.faults().is_empty(), "byte {at} ({:?})", char::from(whole[at]));
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    std::fs::write(folder.file("manifest.jsonl"), [lines[1], lines[0]].concat()).unwrap();
    assert!(folder.faults().iter().any(|fault| fault.contains("does not follow")), "{:?}", folder.faults());
}

#[test]
fn a_removed_file_is_named() {
    let folder = two_segments();
    std::fs::remove_file(folder.file("00000002.jsonl")).unwrap();
    assert_eq!(folder.faults(), ["00000002.jsonl Some(2): the file is missing"]);
    assert_eq!(folder.count(""), (11, 20), "a query uses the sealed file instead");
}

#[test]
fn a_name_in_an_altered_manifest_leads_to_no_file_outside_of_the_store() {
    let folder = two_segments();
    let text = std::fs::read_to_string(folder.file("manifest.jsonl")).unwrap();
    std::fs::write(folder.file("manifest.jsonl"), text.replacen("00000001.jsonl\"", "../../etc/passwd\"", 1))
        .unwrap();
    assert!(
        folder.faults().iter().any(|fault| fault.contains("seal 1 names a file that is not its segment's"))
    );
    assert_eq!(folder.count("verdict=good").0, 20, "the segment is read as one that is not sealed");
}
