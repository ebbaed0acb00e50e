//! Segments that were cut, or of which a byte changed; and that reading again gives the same books.

use proptest::prelude::*;

use super::*;
use crate::ledger::books::Books;

/// A segment of a few frames: its bytes, and the books at each border between frames from the checkpoint on.
fn sample(dir: &Path) -> (Vec<u8>, Vec<(usize, Books)>) {
    let mut journal = Journal::open(dir).unwrap();
    let mut borders = vec![(journal.end as usize, journal.books.clone())];
    let mut ids = Vec::new();
    for n in 0..4 {
        let caps = [cap("job", 1_000), cap(&format!("task{n}"), 100)];
        // The caps first, so that each border is one of a single frame.
        assert!(journal.reserve(Timestamp(n), payer(1), &caps, amount(500, 0)).is_err());
        borders.push((journal.end as usize, journal.books.clone()));
        ids.push(journal.reserve(Timestamp(n), payer_of(n, attempt(n)), &caps, amount(n, 9)).unwrap());
        borders.push((journal.end as usize, journal.books.clone()));
    }
    for (n, id) in ids.into_iter().enumerate().skip(1) {
        let outcome = if n == 2 { Outcome::Failed } else { Outcome::Settled(amount(1, 1)) };
        journal.settle(Timestamp(9), id, outcome);
        borders.push((journal.end as usize, journal.books.clone()));
    }
    let task = "api".parse().unwrap();
    journal.revoke(Revoked { job: job(), task, epoch: 1 }).unwrap();
    borders.push((journal.end as usize, journal.books.clone()));
    (std::fs::read(journal.path()).unwrap(), borders)
}

fn replayed(dir: &Path, bytes: &[u8]) -> Result<Books, LedgerError> {
    std::fs::write(segment::path_of(dir, 1), bytes).unwrap();
    Journal::open(dir).map(|journal| journal.books)
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_frame() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (bytes, borders) = sample(dir.path());
    let ready = borders[0].0;
    // The first border is two caps wide: within it either cap may be the last that counts.
    for length in (0..ready).chain(borders[1].0..=bytes.len()) {
        let got = replayed(copy.path(), &bytes[..length]);
        match borders.iter().rev().find(|(border, _)| *border <= length) {
            Some((_, books)) => assert_eq!(&got.unwrap(), books, "cut at {length}"),
            None => assert!(matches!(got, Err(LedgerError::Damaged { .. })), "cut at {length}"),
        }
    }
    // Zeros, as some file systems leave them, are a torn tail too; so is half of a further frame.
    let (end, books) = borders.last().unwrap();
    for tail in [&[0; 300][..], &bytes[*end - 20..]] {
        assert_eq!(&replayed(copy.path(), &[&bytes[..], tail].concat()).unwrap(), books);
        assert_eq!(std::fs::read(segment::path_of(copy.path(), 1)).unwrap(), bytes);
    }
}

#[test]
fn a_changed_byte_before_sound_frames_stops_the_start_and_changes_nothing() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (bytes, borders) = sample(dir.path());
    let last = borders[borders.len() - 2].clone();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let got = replayed(copy.path(), &changed);
        if at >= last.0 {
            // Nothing tells it from a frame that a crash tore.
            assert_eq!(got.unwrap(), last.1, "byte {at}");
        } else {
            let error = got.unwrap_err();
            assert!(matches!(error, LedgerError::Damaged { .. }), "byte {at}: {error}");
            assert_eq!(std::fs::read(segment::path_of(copy.path(), 1)).unwrap(), changed, "byte {at}");
        }
    }
}

#[test]
fn a_missing_segment_and_a_newer_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(sample(dir.path()));
    let bytes = std::fs::read(segment::path_of(dir.path(), 1)).unwrap();
    std::fs::write(segment::path_of(dir.path(), 3), &bytes).unwrap();
    let error = Journal::open(dir.path()).unwrap_err();
    assert!(matches!(&error, LedgerError::Missing { path } if path.ends_with("00000002.seg")), "{error}");
    std::fs::remove_file(segment::path_of(dir.path(), 3)).unwrap();
    let begin = frame::Begin { format: frame::FORMAT + 1, segment: 1, next_seq: 1, next_id: 1 };
    let mut newer = Vec::new();
    frame::put(&mut newer, &frame::Frame::Begin(begin)).unwrap();
    assert!(matches!(replayed(dir.path(), &newer), Err(LedgerError::Newer(2))));
}

#[test]
fn the_kind_that_readers_look_for_is_the_kind_that_is_written() {
    let (at, end) = (Timestamp(1), frame::End::Failed);
    let row = frame::Row { seq: 1, id: 1, at, payer: payer(1), spent: amount(1, 1), end };
    let mut bytes = Vec::new();
    frame::put(&mut bytes, &frame::Frame::Settle(row)).unwrap();
    assert_eq!(frame::take(&bytes).unwrap().0[0], frame::SETTLE_KIND);
}

#[derive(Debug, Clone)]
enum Step {
    Reserve { epoch: u64, task: u64, version: u64, tokens: u64 },
    Settle(prop::sample::Index, Outcome),
    Revoke(u64),
    Roll,
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        (0_u64..50).prop_map(|n| Outcome::Settled(amount(n, n))),
        Just(Outcome::Estimated),
        Just(Outcome::Failed)
    ];
    prop_oneof![
        6 => (1_u64..4, 0_u64..3, 1_u64..4, 0_u64..60)
            .prop_map(|(epoch, task, version, tokens)| Step::Reserve { epoch, task, version, tokens }),
        4 => (any::<prop::sample::Index>(), outcome).prop_map(|(i, o)| Step::Settle(i, o)),
        1 => (0_u64..3).prop_map(Step::Revoke),
        1 => Just(Step::Roll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The journal read again is the books as they were, whatever happened and wherever segments began.
    #[test]
    fn read_again_the_books_are_the_same(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let shared = Shared::new(Journal::open(dir.path()).unwrap(), u64::MAX);
        let mut open = Vec::new();
        for (at, step) in (0..).map(Timestamp).zip(steps) {
            match step {
                Step::Reserve { epoch, task, version, tokens } => {
                    let task = cap(&format!("task{task}"), 70 * version);
                    let caps = [cap("job", 900), BudgetCap { version, ..task }];
                    open.extend(shared.lock().reserve(at, payer(epoch), &caps, amount(tokens, 1)));
                }
                Step::Settle(index, outcome) if !open.is_empty() => {
                    let id = open.remove(index.index(open.len()));
                    shared.lock().settle(at, id, outcome);
                }
                Step::Settle(..) => {}
                Step::Revoke(epoch) => {
                    let task = "api".parse().unwrap();
                    shared.lock().revoke(Revoked { job: job(), task, epoch }).unwrap();
                }
                Step::Roll => sync::roll(&shared).unwrap(),
            }
        }
        let again = Journal::open(dir.path()).unwrap();
        prop_assert_eq!(&again.books, &shared.lock().books);
    }
}
