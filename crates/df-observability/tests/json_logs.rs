//! What a process writes when it logs.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up must fail")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use df_observability::{LogError, json_subscriber};
use serde_json::Value;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn lines(filter: &str, log: impl FnOnce()) -> Vec<Value> {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = json_subscriber("devfactory-test", filter, move || writer.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, log);
    let bytes = captured.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn every_record_is_one_flat_object_with_the_fields_of_its_spans() {
    let got = lines("info", || {
        let span = tracing::info_span!("attempt", job = "job_1", epoch = 3_u64);
        let _entered = span.enter();
        tracing::warn!(task = "api", tries = 2_u64, done = false, "line\nbreak");
        tracing::debug!("below the filter");
    });
    assert_eq!(got.len(), 1);
    let line = &got[0];
    assert_eq!(line["message"], "line\nbreak");
    assert_eq!((&line["job"], &line["task"]), (&"job_1".into(), &"api".into()));
    assert_eq!((&line["epoch"], &line["tries"], &line["done"]), (&3.into(), &2.into(), &false.into()));
    assert_eq!((&line["level"], &line["process"]), (&"warn".into(), &"devfactory-test".into()));
    assert_eq!(line["target"], "json_logs");
    assert!(line["at"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_field_cannot_pose_as_the_process_and_is_cut() {
    let got = lines("info", || tracing::info!(process = "other", big = "x".repeat(10_000), "hello"));
    assert_eq!(got[0]["process"], "devfactory-test");
    assert_eq!(got[0]["big"].as_str().unwrap().len(), 4096);
}

#[test]
fn a_wrong_filter_is_named() {
    let Err(error) = json_subscriber("x", "info,=nonsense=", io::sink) else { panic!("accepted") };
    assert!(matches!(error, LogError::Filter { .. }));
    assert!(error.to_string().contains("nonsense"));
}
