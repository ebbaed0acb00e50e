//! API keys.

use df_contract::api::{KeyCreate, KeyCreated, KeyView};
use df_contract::{ErrorCode, Problem, Role, WorkerClass};

use super::{client, show};
use crate::args::{Cli, KeysCommand};

pub(crate) async fn keys(cli: &Cli, command: &KeysCommand) -> anyhow::Result<()> {
    let client = client(cli)?;
    match command {
        KeysCommand::Create { name, roles, tenant, trusted } => {
            let class = trusted.then_some(WorkerClass::Trusted);
            let roles = roles.iter().map(|r| role(r)).collect::<Result<_, _>>()?;
            let tenant = tenant.as_ref().map(|t| t.parse()).transpose();
            let tenant = tenant
                .map_err(|e: df_contract::IdError| Problem::new(ErrorCode::InvalidRequest, e.to_string()))?;
            let body = KeyCreate { identity: name.clone(), roles, tenant, class, expires_at: None };
            let made: KeyCreated = client.post("/v1/keys", &body).await?;
            show(cli, &made, |m| format!("{}\n{}\nkeep it: it is not shown again\n", m.key.id, m.secret))
        }
        KeysCommand::List => {
            let keys: Vec<KeyView> = client.get("/v1/keys").await?;
            show(cli, &keys, |keys| keys.iter().map(line).collect())
        }
        KeysCommand::Revoke { id } => client.delete(&format!("/v1/keys/{id}")).await,
    }
}

fn role(text: &str) -> Result<Role, Problem> {
    Role::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Role::ALL.iter().map(|r| r.as_str()).collect();
        Problem::new(
            ErrorCode::InvalidRequest,
            format!("`{text}` is not a role; roles are {}", known.join(", ")),
        )
    })
}

fn line(key: &KeyView) -> String {
    let roles: Vec<&str> = key.roles.iter().map(|r| r.as_str()).collect();
    let revoked = if key.revoked { "  revoked" } else { "" };
    format!("{}  {:<20} {:<24} {}{revoked}\n", key.id, key.identity, roles.join(","), key.tenant)
}
