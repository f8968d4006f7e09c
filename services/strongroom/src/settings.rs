//! Settings: options win over the environment, the environment over one TOML file, the file over defaults.
//!
//! Options and environment are merged by the grammar itself (each option names its variable); what is left for here is
//! the file and the defaults, and to say where a value came from.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;
use serde::{Deserialize, Deserializer, Serialize};

use crate::args::{Global, LogFormat, LogTo, PlatformArgs};
use crate::failure::{Failure, Outcome};
use crate::units::{parse_duration, parse_size};

/// Where the gateway answers unless told otherwise.
pub const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8080";
/// Bytes of a settings file, at most.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// An option on the command line.
    Option,
    /// An environment variable.
    Environment,
    /// The settings file.
    File,
    /// Nobody said anything.
    Default,
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sourced<T> {
    /// The value in force.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

/// The settings file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileSettings {
    endpoint: Option<String>,
    deployment: Option<String>,
    passphrase_file: Option<PathBuf>,
    passphrase_command: Option<String>,
    #[serde(deserialize_with = "size")]
    bandwidth_limit: Option<u64>,
    platform: FilePlatform,
}

/// `[platform]` of the settings file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FilePlatform {
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
    grpc_listen: Option<SocketAddr>,
    database: Option<String>,
    tls_nodes: Option<bool>,
    node_port: Option<u16>,
    no_custody: Option<bool>,
    #[serde(deserialize_with = "size")]
    memory_budget: Option<u64>,
    #[serde(deserialize_with = "size")]
    principal_budget: Option<u64>,
    #[serde(deserialize_with = "time")]
    deletion_grace: Option<Duration>,
    #[serde(deserialize_with = "time")]
    upload_lifetime: Option<Duration>,
    #[serde(deserialize_with = "size")]
    node_capacity: Option<u64>,
    #[serde(deserialize_with = "time")]
    probe_interval: Option<Duration>,
    log_format: Option<LogFormat>,
    log_to: Option<LogTo>,
    log: Option<String>,
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u64),
        Text(String),
    }
    match Form::deserialize(deserializer)? {
        Form::Number(bytes) => Ok(Some(bytes)),
        Form::Text(text) => parse_size(&text)
            .map(Some)
            .map_err(serde::de::Error::custom),
    }
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text)
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// The settings of every command.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of identity, settings and local state.
    pub config_dir: Sourced<PathBuf>,
    /// The settings file, whether or not it exists.
    pub config_file: Sourced<PathBuf>,
    /// Where the gateway answers.
    pub endpoint: Sourced<String>,
    /// The deployment that must answer, as text.
    pub deployment: Sourced<Option<String>>,
    /// File with the passphrase.
    pub passphrase_file: Sourced<Option<PathBuf>>,
    /// Command that prints the passphrase.
    pub passphrase_command: Sourced<Option<String>>,
    /// What the file says, for the options of single commands.
    pub file: FileSettings,
}

/// The settings of a platform.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Folder of the deployment.
    pub data: Sourced<PathBuf>,
    /// Where REST is served.
    pub listen: Sourced<SocketAddr>,
    /// Where gRPC is served.
    pub grpc_listen: Sourced<SocketAddr>,
    /// Metadata database, when not SQLite in the data folder.
    pub database: Sourced<Option<String>>,
    /// Mutual TLS to the nodes.
    pub tls_nodes: Sourced<bool>,
    /// First port of the nodes with TLS.
    pub node_port: Sourced<u16>,
    /// Neither ledger nor custodians.
    pub no_custody: Sourced<bool>,
    /// Bytes in flight in the gateway.
    pub memory_budget: Sourced<Option<u64>>,
    /// Bytes of it that one principal may take.
    pub principal_budget: Sourced<Option<u64>>,
    /// How long replaced and deleted objects stay readable.
    pub deletion_grace: Sourced<Option<Duration>>,
    /// How long an upload may be idle.
    pub upload_lifetime: Sourced<Option<Duration>>,
    /// Bytes that each node may store.
    pub node_capacity: Sourced<Option<u64>>,
    /// How often nodes are probed.
    pub probe_interval: Sourced<Option<Duration>>,
    /// Form of the log lines.
    pub log_format: Sourced<LogFormat>,
    /// Where logs go.
    pub log_to: Sourced<LogTo>,
    /// What is logged.
    pub log: Sourced<String>,
}

/// Tells an option from an environment variable, by the name of the argument.
pub type OriginOf<'a> = &'a dyn Fn(&str) -> Option<ValueSource>;

/// The origins of a parsed command line; the matches of the subcommand hold the global options too.
pub fn origins(matches: &ArgMatches) -> impl Fn(&str) -> Option<ValueSource> + '_ {
    move |name| {
        matches
            .try_contains_id(name)
            .ok()
            .and_then(|_| matches.value_source(name))
    }
}

fn pick<T>(
    name: &str,
    origin_of: OriginOf<'_>,
    given: Option<T>,
    file: Option<T>,
    default: impl FnOnce() -> T,
) -> Sourced<T> {
    match (given, file) {
        (Some(value), _) => {
            let origin = match origin_of(name) {
                Some(ValueSource::EnvVariable) => Origin::Environment,
                _ => Origin::Option,
            };
            Sourced { value, origin }
        }
        (None, Some(value)) => Sourced {
            value,
            origin: Origin::File,
        },
        (None, None) => Sourced {
            value: default(),
            origin: Origin::Default,
        },
    }
}

fn pick_option<T>(
    name: &str,
    origin_of: OriginOf<'_>,
    given: Option<T>,
    file: Option<T>,
) -> Sourced<Option<T>> {
    pick(name, origin_of, given.map(Some), file.map(Some), || None)
}

impl Settings {
    /// Reads the settings file and merges.
    ///
    /// # Errors
    /// When the file cannot be read or is not understood, or no configuration folder can be told.
    pub fn load(global: &Global, origin_of: OriginOf<'_>) -> Outcome<Self> {
        let config_dir = match &global.config_dir {
            Some(_) => pick(
                "config_dir",
                origin_of,
                global.config_dir.clone(),
                None,
                PathBuf::new,
            ),
            None => Sourced {
                value: default_config_dir()?,
                origin: Origin::Default,
            },
        };
        let default_file = config_dir.value.join("config.toml");
        let config_file = pick("config", origin_of, global.config.clone(), None, || {
            default_file
        });
        let file = read_file(&config_file)?;
        Ok(Self::merge(
            global,
            origin_of,
            config_dir,
            config_file,
            file,
        ))
    }

    fn merge(
        global: &Global,
        origin_of: OriginOf<'_>,
        config_dir: Sourced<PathBuf>,
        config_file: Sourced<PathBuf>,
        file: FileSettings,
    ) -> Self {
        Self {
            endpoint: pick(
                "endpoint",
                origin_of,
                global.endpoint.clone(),
                file.endpoint.clone(),
                || DEFAULT_ENDPOINT.to_owned(),
            ),
            deployment: pick_option(
                "deployment",
                origin_of,
                global.deployment.clone(),
                file.deployment.clone(),
            ),
            passphrase_file: pick_option(
                "passphrase_file",
                origin_of,
                global.passphrase_file.clone(),
                file.passphrase_file.clone(),
            ),
            passphrase_command: pick_option(
                "passphrase_command",
                origin_of,
                global.passphrase_command.clone(),
                file.passphrase_command.clone(),
            ),
            config_dir,
            config_file,
            file,
        }
    }

    /// The sealed identity.
    pub fn identity_file(&self) -> PathBuf {
        self.config_dir.value.join("identity")
    }

    /// Where interrupted transfers, bucket keys and what is known of synced folders wait.
    pub fn state_dir(&self) -> PathBuf {
        self.config_dir.value.join("state")
    }

    /// Where genesis records of deployments are pinned.
    pub fn genesis_dir(&self) -> PathBuf {
        self.config_dir.value.join("genesis")
    }

    /// The limit of a transfer command: its option, else the file's.
    pub fn bandwidth_limit(&self, given: Option<u64>) -> Option<u64> {
        given.or(self.file.bandwidth_limit)
    }

    /// The folder of a deployment: a command's option, else the file's, else `./data`.
    pub fn data_dir(&self, given: Option<&Path>) -> PathBuf {
        given
            .map(Path::to_owned)
            .or_else(|| self.file.platform.data.clone())
            .unwrap_or_else(|| PathBuf::from("data"))
    }

    /// The settings of a platform.
    pub fn platform(&self, args: &PlatformArgs, origin_of: OriginOf<'_>) -> Platform {
        let file = self.file.platform.clone();
        let args = args.clone();
        let o = origin_of;
        Platform {
            data: pick("data", o, args.data, file.data, || PathBuf::from("data")),
            listen: pick("listen", o, args.listen, file.listen, || {
                SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))
            }),
            grpc_listen: pick("grpc_listen", o, args.grpc_listen, file.grpc_listen, || {
                SocketAddr::from((Ipv4Addr::LOCALHOST, 50_051))
            }),
            database: pick_option("database", o, args.database, file.database),
            tls_nodes: pick("tls_nodes", o, args.tls_nodes, file.tls_nodes, || false),
            node_port: pick("node_port", o, args.node_port, file.node_port, || 7400),
            no_custody: pick("no_custody", o, args.no_custody, file.no_custody, || false),
            memory_budget: pick_option("memory_budget", o, args.memory_budget, file.memory_budget),
            principal_budget: pick_option(
                "principal_budget",
                o,
                args.principal_budget,
                file.principal_budget,
            ),
            deletion_grace: pick_option(
                "deletion_grace",
                o,
                args.deletion_grace,
                file.deletion_grace,
            ),
            upload_lifetime: pick_option(
                "upload_lifetime",
                o,
                args.upload_lifetime,
                file.upload_lifetime,
            ),
            node_capacity: pick_option("node_capacity", o, args.node_capacity, file.node_capacity),
            probe_interval: pick_option(
                "probe_interval",
                o,
                args.probe_interval,
                file.probe_interval,
            ),
            log_format: pick(
                "log_format",
                o,
                args.log_format,
                file.log_format,
                LogFormat::default,
            ),
            log_to: pick("log_to", o, args.log_to, file.log_to, LogTo::default),
            log: pick("log", o, args.log, file.log, || "info".to_owned()),
        }
    }
}

/// `$XDG_CONFIG_HOME/strongroom`, else `~/.config/strongroom`.
fn default_config_dir() -> Outcome<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|base| base.join("strongroom"))
        .ok_or_else(|| {
            Failure::usage("there is no home folder to keep the identity in")
                .advise("name a folder with --config-dir or STRONGROOM_CONFIG_DIR")
        })
}

fn read_file(path: &Sourced<PathBuf>) -> Outcome<FileSettings> {
    let named = path.origin != Origin::Default;
    let path = &path.value;
    let text = match std::fs::metadata(path) {
        // Only a file that somebody named has to be there.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => {
            return Ok(FileSettings::default());
        }
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            return Err(Failure::usage(format!(
                "{} is too large for a settings file",
                path.display()
            )));
        }
        _ => std::fs::read_to_string(path)
            .map_err(|error| Failure::file("read the settings file", path, &error))?,
    };
    parse_file(&text).map_err(|error| {
        Failure::usage(format!("{}: {error}", path.display()))
            .advise("correct the file, or name another with --config")
    })
}

fn parse_file(text: &str) -> Result<FileSettings, String> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| {
            text.get(..span.start)
                .map_or(1, |before| before.matches('\n').count() + 1)
        });
        match line {
            Some(line) => format!("line {line}: {}", error.message()),
            None => error.message().to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        endpoint = "http://file:1"
        bandwidth_limit = "10MiB"
        [platform]
        listen = "127.0.0.1:9"
        memory_budget = 1048576
        probe_interval = "250ms"
        log_format = "json"
    "#;

    fn merged(global: &Global, source: Option<ValueSource>) -> Settings {
        let here = |path: &str| Sourced {
            value: PathBuf::from(path),
            origin: Origin::Default,
        };
        Settings::merge(
            global,
            &|_| source,
            here("/c"),
            here("/c/config.toml"),
            parse_file(FILE).unwrap(),
        )
    }

    #[test]
    fn options_win_over_the_environment_the_file_and_defaults() {
        let given = Global {
            endpoint: Some("http://given:2".to_owned()),
            ..Global::default()
        };
        let check = |global: &Global, source, value: &str, origin| {
            let settings = merged(global, source);
            assert_eq!(
                (settings.endpoint.value.as_str(), settings.endpoint.origin),
                (value, origin)
            );
        };
        check(
            &given,
            Some(ValueSource::CommandLine),
            "http://given:2",
            Origin::Option,
        );
        check(
            &given,
            Some(ValueSource::EnvVariable),
            "http://given:2",
            Origin::Environment,
        );
        check(&Global::default(), None, "http://file:1", Origin::File);
        let bare = Settings::merge(
            &Global::default(),
            &|_| None,
            Sourced {
                value: PathBuf::from("/c"),
                origin: Origin::Default,
            },
            Sourced {
                value: PathBuf::from("/c/config.toml"),
                origin: Origin::Default,
            },
            FileSettings::default(),
        );
        assert_eq!(bare.endpoint.value, DEFAULT_ENDPOINT);
        assert_eq!(bare.endpoint.origin, Origin::Default);
    }

    #[test]
    fn the_platform_merges_the_same_way() {
        let settings = merged(&Global::default(), None);
        let args = PlatformArgs {
            log_format: Some(LogFormat::Text),
            ..PlatformArgs::default()
        };
        let platform = settings.platform(&args, &|_| Some(ValueSource::CommandLine));
        assert_eq!(platform.listen.value.port(), 9);
        assert_eq!(platform.listen.origin, Origin::File);
        assert_eq!(platform.memory_budget.value, Some(1 << 20));
        assert_eq!(
            platform.probe_interval.value,
            Some(Duration::from_millis(250))
        );
        assert_eq!(
            platform.log_format,
            Sourced {
                value: LogFormat::Text,
                origin: Origin::Option
            }
        );
        assert_eq!(
            platform.node_port,
            Sourced {
                value: 7400,
                origin: Origin::Default
            }
        );
        assert_eq!(settings.bandwidth_limit(None), Some(10 << 20));
        assert_eq!(settings.bandwidth_limit(Some(5)), Some(5));
    }

    #[test]
    fn a_settings_file_with_mistakes_is_refused_with_its_line() {
        let check = |text: &str, part: &str| {
            let error = parse_file(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        };
        check("endpoint = \"a\"\nendpiont = \"b\"", "line 2");
        check("endpiont = \"b\"", "endpiont");
        check("[platform]\nlisten = \"nonsense\"", "line 2");
        check("bandwidth_limit = \"fast\"", "not a size");
        check("[platform]\nlog_to = \"paper\"", "paper");
    }
}
