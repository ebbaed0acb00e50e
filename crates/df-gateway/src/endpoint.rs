//! Every endpoint: its address, who opens it, and which action it is. Data, so that the matrix can be tested.

use axum::http::Method;
use df_contract::Action;

/// What a request must bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Nothing: says no more than that the daemon lives.
    Open,
    /// An API key whose roles may do `action` on `target`.
    Key { action: Action, target: Target },
    /// The token of a lease that is held now.
    Lease { action: Action },
    /// The token of a lease, held or not: a report sent again must get the first answer.
    AnyLease { action: Action },
    /// Either, on something of one's own.
    KeyOrLease { action: Action },
}

/// How far the action reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// What the caller brings or makes.
    Own,
    /// The job in the path: the scope follows from its tenant and submitter.
    Job,
    /// The agent in the path: the scope follows from its tenant and registrant. Everybody's agents are read by all, and
    /// changed as something of the installation.
    Agent,
    /// The caller's tenant as a whole.
    Tenant,
    /// A list: of the whole installation for those who may, else of the caller's tenant.
    List,
    /// The installation.
    Installation,
}

/// Address and door of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub method: Method,
    pub path: &'static str,
    pub door: Door,
}

macro_rules! endpoints {
    ($($name:ident = $method:ident $path:literal $door:ident $(($action:ident $($target:ident)?))?;)+) => {
        /// All there is. The router is made from this list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Endpoint { $($name),+ }

        impl Endpoint {
            pub const ALL: &'static [Endpoint] = &[$(Endpoint::$name),+];

            pub fn rule(self) -> Rule {
                match self {
                    $(Endpoint::$name => Rule {
                        method: Method::$method,
                        path: $path,
                        door: endpoints!(@door $door $(($action $($target)?))?),
                    }),+
                }
            }
        }
    };
    (@door Open) => { Door::Open };
    (@door Key ($action:ident $target:ident)) => { Door::Key { action: Action::$action, target: Target::$target } };
    (@door $door:ident ($action:ident)) => { Door::$door { action: Action::$action } };
}

endpoints! {
    Health = GET "/healthz" Open;
    JobSubmit = POST "/v1/jobs" Key(JobSubmit Own);
    JobList = GET "/v1/jobs" Key(JobRead List);
    JobShow = GET "/v1/jobs/{id}" Key(JobRead Job);
    JobEvents = GET "/v1/jobs/{id}/events" Key(JobRead Job);
    JobApprove = POST "/v1/jobs/{id}/approve" Key(JobApprove Job);
    JobReject = POST "/v1/jobs/{id}/reject" Key(JobApprove Job);
    JobCancel = POST "/v1/jobs/{id}/cancel" Key(JobCancel Job);
    JobPause = POST "/v1/jobs/{id}/pause" Key(JobPause Job);
    JobResume = POST "/v1/jobs/{id}/resume" Key(JobResume Job);
    JobRetry = POST "/v1/jobs/{id}/retry" Key(JobRetry Job);
    JobMessage = POST "/v1/jobs/{id}/message" Key(JobMessage Job);
    JobBudget = POST "/v1/jobs/{id}/budget" Key(JobBudget Job);
    JobPriority = POST "/v1/jobs/{id}/priority" Key(JobPriority Job);
    JobRollback = POST "/v1/jobs/{id}/rollback" Key(JobRollback Job);
    ArtefactList = GET "/v1/jobs/{id}/artifacts" Key(JobRead Job);
    ArtefactGet = GET "/v1/jobs/{id}/artifacts/{*name}" Key(BlobRead Job);
    JobBlob = GET "/v1/jobs/{id}/blobs/{digest}" Key(BlobRead Job);
    JobAudit = GET "/v1/jobs/{id}/audit" Key(AuditRead Job);
    BlobPut = PUT "/v1/blobs/{digest}" KeyOrLease(BlobWrite);
    BlobGet = GET "/v1/blobs/{digest}" Lease(BlobRead);
    KeyCreate = POST "/v1/keys" Key(KeyManage Installation);
    KeyList = GET "/v1/keys" Key(KeyManage Installation);
    KeyRevoke = DELETE "/v1/keys/{id}" Key(KeyManage Installation);
    AgentRegister = POST "/v1/agents" Key(AgentRegister Own);
    AgentRegisterGlobal = POST "/v1/agents/global" Key(AgentRegister Installation);
    AgentList = GET "/v1/agents" Key(AgentRead List);
    AgentShow = GET "/v1/agents/{name}" Key(AgentRead Agent);
    AgentLog = GET "/v1/agents/{name}/log" Key(AuditRead Agent);
    AgentEnable = POST "/v1/agents/{name}/enable" Key(AgentManage Agent);
    AgentDisable = POST "/v1/agents/{name}/disable" Key(AgentManage Agent);
    AgentPin = POST "/v1/agents/{name}/pin" Key(AgentManage Tenant);
    AgentUnpin = POST "/v1/agents/{name}/unpin" Key(AgentManage Tenant);
    SignerReset = DELETE "/v1/signers/{identity}" Key(KeyManage Installation);
    System = GET "/v1/system" Key(SystemRead List);
    SessionOpen = POST "/v1/worker/sessions" Key(LeaseClaim Installation);
    SessionClaim = POST "/v1/worker/sessions/{id}/claim" Key(LeaseClaim Installation);
    SessionHeartbeat = POST "/v1/worker/sessions/{id}/heartbeat" Key(LeaseClaim Installation);
    SessionWatch = POST "/v1/worker/sessions/{id}/watch" Key(LeaseClaim Installation);
    SessionClose = DELETE "/v1/worker/sessions/{id}" Key(LeaseClaim Installation);
    LeaseEvents = POST "/v1/worker/leases/{job}/{slug}/{epoch}/events" Lease(BlobWrite);
    LeaseReport = POST "/v1/worker/leases/{job}/{slug}/{epoch}/report" AnyLease(BlobWrite);
}
