//! What the environment says: where the memory lies, what clients may see of it, and where they come from.

use crate::place::Place;
use crate::scope::Scope;
use crate::toolset::Toolset;
use crate::users::{self, Users};
use memstone::memory::Namespace;
use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How long a call may wait for others, unless the environment says otherwise: clients wait for a minute.
const PATIENCE: Duration = Duration::from_secs(30);
/// So many sessions at most, unless the environment says otherwise.
const SESSIONS: usize = 4096;

/// What the environment says.
pub(crate) struct Settings {
    pub(crate) place: Place,
    pub(crate) patience: Duration,
    pub(crate) tools: Toolset,
    /// What clients without a token see of the memory.
    pub(crate) scope: Scope,
    /// Where to listen; `None`: one client, on standard input and output.
    pub(crate) listen: Option<Listen>,
}

/// Where to listen, and to whom.
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    /// The names of this host by which it may be called, besides those of the loopback interface.
    pub(crate) hosts: Vec<String>,
    /// `None`: no token is asked for.
    pub(crate) users: Option<Users>,
    /// So many sessions at most are there at once.
    pub(crate) sessions: usize,
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Settings, String> {
        let scope = scope()?;
        let tools = text("MEMSTONE_TOOLS")?.unwrap_or_else(|| "graph".to_owned());
        let tools = Toolset::parse(&tools).ok_or_else(|| {
            format!("MEMSTONE_TOOLS is {tools:?}; it may be \"all\", or some of \"graph\", \"memory\", \"jobs\", \"work\" and \"care\", with commas")
        })?;
        let (patience, listen) = (patience()?, listen()?);
        // Last, because it may create a directory.
        let place = Place::from_environment().map_err(|failure| failure.to_string())?;
        Ok(Settings { place, patience, tools, scope, listen })
    }
}

/// A variable; one that is empty is not set.
fn text(name: &str) -> Result<Option<String>, String> {
    let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    value.into_string().map(Some).map_err(|value| format!("{name} is {value:?}, which is not UTF-8"))
}

fn patience() -> Result<Duration, String> {
    let Some(text) = env::var_os("MEMSTONE_DEADLINE") else { return Ok(PATIENCE) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let patience = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    patience
        .filter(|patience| (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(patience))
        .ok_or_else(|| format!("MEMSTONE_DEADLINE is {text:?}, not a number of seconds from 0.001 to 86400"))
}

fn scope() -> Result<Scope, String> {
    let namespace = text("MEMSTONE_NAMESPACE")?.unwrap_or_default();
    let namespace: Namespace = namespace.parse().map_err(|error| format!("MEMSTONE_NAMESPACE: {error}"))?;
    Ok(Scope::new(namespace))
}

fn listen() -> Result<Option<Listen>, String> {
    let Some(address) = text("MEMSTONE_HTTP")? else { return Ok(None) };
    let address: SocketAddr = address
        .parse()
        .map_err(|_| format!("MEMSTONE_HTTP is {address:?}, not an address and a port such as 127.0.0.1:8417"))?;
    let users = text("MEMSTONE_TOKENS")?.map(|path| users::read(Path::new(&path)));
    let users = users.transpose().map_err(|reason| format!("MEMSTONE_TOKENS: {reason}"))?;
    if users.is_none() && !address.ip().is_loopback() {
        return Err(format!(
            "MEMSTONE_HTTP is {address}, which other hosts can reach: name a file of tokens with MEMSTONE_TOKENS, or \
             listen at 127.0.0.1"
        ));
    }
    let hosts = text("MEMSTONE_HTTP_HOSTS")?.unwrap_or_default();
    let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned).collect();
    let sessions = text("MEMSTONE_HTTP_SESSIONS")?.map_or(Ok(SESSIONS), |number| {
        let number = number.parse().ok().filter(|number| (1..=1_000_000).contains(number));
        number.ok_or("MEMSTONE_HTTP_SESSIONS is not a number from 1 to 1000000".to_owned())
    })?;
    Ok(Some(Listen { address, hosts, users, sessions }))
}
