//! The job files under `examples/jobs/` are read by the real type and pass its own checks.

use df_contract::{JobSpec, PlanLimits, Role, Source};

fn job(text: &str) -> Result<JobSpec, toml::de::Error> {
    let spec: JobSpec = toml::from_str(text)?;
    assert_eq!(spec.validate(&PlanLimits::SUPPLIED), Ok(()));
    Ok(spec)
}

fn url_shortener() -> Result<JobSpec, toml::de::Error> {
    job(include_str!("../../../examples/jobs/url-shortener/job.toml"))
}

#[test]
fn the_url_shortener_leaves_the_plan_to_the_coordinator() {
    let spec = url_shortener().unwrap();
    assert_eq!(spec.plan, None);
    assert_eq!(spec.source, Source::Path { path: "source".into() });
    assert_eq!(spec.capabilities, df_contract::Capabilities::default());
    assert!(spec.budget.money_nano_usd.is_none(), "an unpriced model must serve it");
    assert!(spec.acceptance.len() >= 2 && spec.hidden_checks.len() == 2);
}

#[test]
fn hidden_checks_give_nothing_away_in_their_hints() {
    for check in url_shortener().unwrap().hidden_checks {
        assert!(!check.public_hint.contains(".py"), "{}", check.public_hint);
        assert!(check.blob.is_none() && check.path.is_some(), "the CLI makes the blob");
        assert!(check.command.contains(".devfactory-hidden/"), "{}", check.command);
    }
}

#[test]
fn the_phishing_job_is_well_formed() {
    let spec = job(include_str!("../../../examples/jobs/credential-phishing/job.toml")).unwrap();
    assert_eq!(spec.source, Source::Empty, "it must be refused for what it wants, not for its form");
}

#[test]
fn the_customer_export_names_what_makes_it_wait_and_brings_its_plan() {
    let spec = job(include_str!("../../../examples/jobs/customer-export/job.toml")).unwrap();
    assert_eq!(spec.capabilities.environments, ["production"]);
    assert_eq!(spec.capabilities.data_classes, ["personal"]);
    let plan = spec.plan.unwrap();
    assert_eq!(plan.tasks.iter().map(|t| t.role).collect::<Vec<_>>(), [Role::Backend]);
}

#[test]
fn a_misspelt_field_in_a_job_file_is_named() {
    let e = toml::from_str::<JobSpec>("title = 't'\ndescription = 'd'\nacceptence = []\n").unwrap_err();
    assert!(e.to_string().contains("acceptence"), "{e}");
}
