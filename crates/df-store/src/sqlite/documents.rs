//! The parts of a job's record that have rows of their own, and the text of the rest.
//!
//! A transition changes little of a record; what it leaves as it was is not written again.

use std::collections::BTreeMap;
use std::sync::Arc;

use df_contract::{AssignedAgent, TaskSlug};
use df_control_machine::JobRecord;
use serde::Serialize;
use serde::ser::{Error as _, Impossible, SerializeStruct, Serializer};

use super::cells::json;
use crate::StoreError;
use crate::rows::Kept;

/// Fields of [`JobRecord`] that are rows of `documents`.
const NAMES: [&str; 8] =
    ["spec", "facts", "decision", "plan", "proposed_plan", "assigned", "gate_facts", "messages"];
/// The field that is the rows of `tasks`.
const TASKS: &str = "tasks";

/// A document after a transition: its text, or nothing when it is gone.
pub(super) type Document = (&'static str, Option<String>);

/// The documents that differ. What both records share is not compared.
pub(super) fn changed(before: Option<&JobRecord>, after: &JobRecord) -> Kept<Vec<Document>> {
    let shared = [
        arc("spec", before.map(|b| &b.spec), Some(&after.spec))?,
        arc("facts", before.and_then(|b| b.facts.as_ref()), after.facts.as_ref())?,
        arc("decision", before.and_then(|b| b.decision.as_ref()), after.decision.as_ref())?,
        arc("plan", before.and_then(|b| b.plan.as_ref()), after.plan.as_ref())?,
        arc("proposed_plan", before.and_then(|b| b.proposed_plan.as_ref()), after.proposed_plan.as_ref())?,
        arc("assigned", before.and_then(|b| assigned(b)), assigned(after))?,
        plain("gate_facts", before.and_then(|b| b.gate_facts.as_ref()), after.gate_facts.as_ref())?,
        plain("messages", before.and_then(|b| some(&b.messages)), some(&after.messages))?,
    ];
    Ok(shared.into_iter().flatten().collect())
}

/// Nobody is no document.
fn assigned(record: &JobRecord) -> Option<&Arc<BTreeMap<TaskSlug, AssignedAgent>>> {
    (!record.assigned.is_empty()).then_some(&record.assigned)
}

fn some<T>(list: &Vec<T>) -> Option<&Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn arc<T: Serialize>(
    name: &'static str,
    before: Option<&Arc<T>>,
    after: Option<&Arc<T>>,
) -> Kept<Option<Document>> {
    match (before, after) {
        (None, None) => Ok(None),
        (Some(before), Some(after)) if Arc::ptr_eq(before, after) => Ok(None),
        (None | Some(_), after) => document(name, after.map(AsRef::as_ref)).map(Some),
    }
}

fn plain<T: Serialize + PartialEq>(
    name: &'static str,
    before: Option<&T>,
    after: Option<&T>,
) -> Kept<Option<Document>> {
    if before == after { Ok(None) } else { document(name, after).map(Some) }
}

fn document<T: Serialize>(name: &'static str, now: Option<&T>) -> Kept<Document> {
    Ok((name, now.map(|now| json(now, "documents")).transpose()?))
}

/// The record without what has rows of its own.
pub(super) fn body_of(record: &JobRecord) -> Kept<String> {
    let failed = |e: serde_json::Error| StoreError::Row { table: "jobs", why: e.to_string() };
    let text = record.serialize(Fields(String::new())).map_err(failed)?;
    Ok(format!("{{{text}}}"))
}

/// The record, still without its tasks, from its body and its documents.
pub(super) fn assembled(body: &str, documents: &[(String, String)]) -> Result<JobRecord, serde_json::Error> {
    let Some(rest) = body.strip_prefix('{') else {
        return Err(serde_json::Error::custom("the body is no object"));
    };
    let size = documents.iter().map(|(name, text)| name.len() + text.len() + 4).sum::<usize>();
    let mut whole = String::with_capacity(size + body.len() + 12);
    whole.push_str("{\"tasks\":{},");
    for (name, text) in documents {
        if !NAMES.contains(&name.as_str()) {
            return Err(serde_json::Error::custom(format!("`{name}` is no part of a record")));
        }
        whole.push_str(&format!("\"{name}\":"));
        whole.push_str(text);
        whole.push(',');
    }
    whole.push_str(rest);
    serde_json::from_str(&whole)
}

/// Writes the fields of one struct, apart from those that are rows of their own.
struct Fields(String);

impl SerializeStruct for Fields {
    type Ok = String;
    type Error = serde_json::Error;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Self::Error> {
        if NAMES.contains(&key) || key == TASKS {
            return Ok(());
        }
        let comma = if self.0.is_empty() { "" } else { "," };
        self.0.push_str(&format!("{comma}\"{key}\":{}", serde_json::to_string(value)?));
        Ok(())
    }

    fn end(self) -> Result<String, Self::Error> {
        Ok(self.0)
    }
}

type Never = Impossible<String, serde_json::Error>;
type Written = Result<String, serde_json::Error>;

/// A record is a struct; anything else is refused.
macro_rules! no_record {
    ($($name:ident($($argument:ty),*) -> $result:ty;)+) => {
        $(fn $name(self, $(_: $argument),*) -> Result<$result, serde_json::Error> {
            Err(serde_json::Error::custom("a record is a struct"))
        })+
    };
}

impl Serializer for Fields {
    type Ok = String;
    type Error = serde_json::Error;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Self;
    type SerializeStructVariant = Never;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, serde_json::Error> {
        Ok(self)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Written {
        value.serialize(self)
    }

    no_record! {
        serialize_bool(bool) -> String;
        serialize_i8(i8) -> String;
        serialize_i16(i16) -> String;
        serialize_i32(i32) -> String;
        serialize_i64(i64) -> String;
        serialize_u8(u8) -> String;
        serialize_u16(u16) -> String;
        serialize_u32(u32) -> String;
        serialize_u64(u64) -> String;
        serialize_f32(f32) -> String;
        serialize_f64(f64) -> String;
        serialize_char(char) -> String;
        serialize_str(&str) -> String;
        serialize_bytes(&[u8]) -> String;
        serialize_none() -> String;
        serialize_unit() -> String;
        serialize_unit_struct(&'static str) -> String;
        serialize_unit_variant(&'static str, u32, &'static str) -> String;
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }
}
