//! Drawings of a plan: as text and as a picture.
#![expect(clippy::unwrap_used, reason = "a test")]

use df_contract::plan::graph::{States, svg, text};
use df_contract::{Plan, TaskState};

fn shop() -> Plan {
    let task = |slug: &str, role: &str, title: &str, on: &[&str]| {
        serde_json::json!({"slug": slug, "role": role, "title": title, "instructions": "x", "depends_on": on,
            "paths": [format!("{slug}/**")]})
    };
    serde_json::from_value(serde_json::json!({"summary": "A shop: catalogue, basket & checkout <with tests>", "tasks": [
        task("schema", "backend", "Tables and migrations", &[]),
        task("design", "frontend", "Design system: colours, type, buttons", &[]),
        task("pipeline", "devops", "Build and test on every change", &[]),
        task("catalogue", "backend", "Catalogue API with search and paging", &["schema"]),
        task("basket", "backend", "Basket API", &["schema"]),
        task("pages", "frontend", "Pages for catalogue and basket, in English and ไทย ภาษาไทยที่ยาวมาก ๆ เพื่อให้ตัด", &["design", "catalogue", "basket"]),
        task("checkout", "backend", "Checkout, with a payment stub", &["basket"]),
        task("checkout-page", "frontend", "Checkout page", &["pages", "checkout"]),
        task("load", "qa", "Load test of the catalogue", &["catalogue", "pipeline"]),
        task("journeys", "qa", "Customer journeys from search to receipt", &["checkout-page"]),
    ]}))
    .unwrap()
}

fn states() -> States {
    [
        ("schema", TaskState::Succeeded),
        ("design", TaskState::Succeeded),
        ("pipeline", TaskState::Failed),
        ("catalogue", TaskState::Succeeded),
        ("basket", TaskState::Leased),
        ("load", TaskState::Skipped),
        ("pages", TaskState::Ready),
        ("checkout", TaskState::Pending),
        ("checkout-page", TaskState::Pending),
        ("journeys", TaskState::Pending),
    ]
    .into_iter()
    .map(|(slug, state)| (slug.parse().unwrap(), state))
    .collect()
}

#[test]
fn the_text_shows_waves_lines_and_the_longest_chain() {
    insta::assert_snapshot!(text(&shop(), &States::new()));
}

#[test]
fn the_text_shows_states() {
    insta::assert_snapshot!(text(&shop(), &states()));
}

#[test]
fn the_picture_is_the_same_every_time() {
    insta::assert_snapshot!(svg(&shop(), &states()));
}

#[test]
fn what_a_title_contains_cannot_leave_its_place() {
    let mut plan = shop();
    plan.summary = "</title><script>alert(1)</script>".into();
    plan.tasks[0].title = "\"/><image href='http://example.invalid/x'/>\u{1b}[2J\u{202e}\n  ● forged".into();
    let picture = svg(&plan, &States::new());
    assert!(!picture.contains("<script") && !picture.contains("<image") && !picture.contains('\u{1b}'));
    let drawn = text(&plan, &States::new());
    assert_eq!(drawn.lines().count(), text(&shop(), &States::new()).lines().count());
    assert!(!drawn.contains(['\u{1b}', '\u{202e}']));
}

#[test]
fn large_plans_are_drawn_within_a_hundred_columns() {
    // Ten layers of a hundred; each task waits for five of the layer before and one of the first.
    let task = |i: usize| {
        let (layer, n) = (i / 100, i % 100);
        let on = (0..if layer == 0 { 0 } else { 5 })
            .map(|k| format!("task-{}", (layer - 1) * 100 + (n * 3 + k) % 100));
        let on: Vec<String> = on.chain((layer > 1).then(|| format!("task-{n}"))).collect();
        serde_json::json!({"slug": format!("task-{i}"), "role": "backend", "title": "界".repeat(60), "instructions": "x",
            "depends_on": on, "paths": [format!("d{i}/**")]})
    };
    let tasks: Vec<_> = (0..1_000).map(task).collect();
    let plan: Plan = serde_json::from_value(serde_json::json!({"summary": "large", "tasks": tasks})).unwrap();
    let drawn = text(&plan, &States::new());
    let wide = |line: &str| line.chars().map(|c| if c == '界' { 2 } else { 1 }).sum::<usize>();
    assert!(drawn.lines().all(|line| wide(line) <= 100));
    assert!(drawn.lines().count() > 1_000 && drawn.contains("(after task-"));
    let picture = svg(&plan, &States::new());
    assert_eq!(picture.matches("<rect class=").count(), 1_000);
}

#[test]
fn a_circle_is_told_not_drawn() {
    let mut plan = shop();
    plan.tasks[0].depends_on = vec!["journeys".parse().unwrap()];
    assert!(text(&plan, &States::new()).contains("in a circle"));
    assert!(svg(&plan, &States::new()).contains("cannot be drawn"));
}
