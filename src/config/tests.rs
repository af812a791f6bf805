//! The settings, read from real files in directories of their own; the environment is a list.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::config::Limits;

const RESOURCE: &str = "[database]\nresource = \"notifications\"\n";

/// Icinga Web's configuration directory, and an environment.
struct Setup {
    dir: TempDir,
    env: Vec<(String, String)>,
}

impl Setup {
    /// `config` and `resources` are the contents of the two files.
    fn new(config: &str, resources: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("modules/notifications")).unwrap();
        fs::write(dir.path().join("modules/notifications/config.ini"), config).unwrap();
        fs::write(dir.path().join("resources.ini"), resources).unwrap();
        Self {
            dir,
            env: Vec::new(),
        }
    }

    /// `keys` are those of `[daemon]`, beside a complete database.
    fn daemon(keys: &str) -> Self {
        let config = format!("[daemon]\n{keys}\n{RESOURCE}");
        Self::new(&config, "[notifications]\ndb = \"pgsql\"\n")
    }

    /// `keys` are those of the PostgreSQL resource, below its first two lines.
    fn resource(keys: &str) -> Self {
        Self::new(RESOURCE, &format!("[notifications]\ndb = pgsql\n{keys}\n"))
    }

    fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// A file beside the two, with its path.
    fn file(&self, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// Adds keys to the resource that name files of this setup as `DIR/…`.
    fn with_keys(self, keys: &str) -> Self {
        let path = self.dir.path().join("resources.ini");
        let keys = keys.replace("DIR", self.dir.path().to_str().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + &keys + "\n").unwrap();
        self
    }

    /// Makes this setup's directory the home directory.
    fn at_home(self) -> Self {
        let home = self.dir.path().to_str().unwrap().to_owned();
        self.env("HOME", home)
    }

    fn load(&self) -> Result<Loaded, Error> {
        let variable = |name: &str| {
            let found = self.env.iter().rev().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        Config::load(self.dir.path(), &variable)
    }

    fn config(&self) -> Config {
        let loaded = self.load().unwrap();
        assert_eq!(loaded.warnings, [""; 0]);
        loaded.config
    }

    fn database(&self) -> Database {
        self.config().database
    }

    /// The error's one line, with the directory shown as `DIR`.
    fn error(&self) -> String {
        let error = self.load().unwrap_err();
        let text = error.to_string();
        assert!(!text.contains('\n'), "more than one line: {text}");
        text.replace(self.dir.path().to_str().unwrap(), "DIR")
    }
}

fn endpoints(database: &Database) -> Vec<(String, u16)> {
    let pair = |host: &DatabaseHost| (host.endpoint.to_string(), host.port);
    database.hosts.iter().map(pair).collect()
}

fn passwords(database: &Database) -> Vec<Option<&str>> {
    let hosts = database.hosts.iter();
    hosts
        .map(|host| host.password.as_ref().map(Secret::expose))
        .collect()
}

mod directory {
    use super::*;

    fn pick(flag: Option<&str>, variable: Option<&str>) -> PathBuf {
        let env = |name: &str| {
            variable
                .filter(|_| name == "ICINGAWEB_CONFIGDIR")
                .map(str::to_owned)
        };
        directory(flag.map(PathBuf::from), &env)
    }

    #[test]
    fn the_flag_beats_the_variable_which_beats_the_default() {
        assert_eq!(pick(Some("/a"), Some("/b")), Path::new("/a"));
        assert_eq!(pick(None, Some("/b")), Path::new("/b"));
        assert_eq!(pick(None, None), Path::new("/etc/icingaweb2"));
    }

    #[test]
    fn an_empty_variable_means_the_default() {
        assert_eq!(pick(None, Some("")), Path::new("/etc/icingaweb2"));
    }
}

mod files {
    use super::*;

    fn replaced(file: &str, by: impl FnOnce(&Path)) -> String {
        let setup = Setup::daemon("");
        let path = setup.dir.path().join(file);
        fs::remove_file(&path).unwrap();
        by(&path);
        setup.error()
    }

    #[test]
    fn a_missing_file_is_named_with_what_to_do() {
        for file in ["modules/notifications/config.ini", "resources.ini"] {
            let error = replaced(file, |_| ());
            assert!(
                error.starts_with(&format!("DIR/{file} does not exist: configure ")),
                "{error}"
            );
            assert!(error.contains("--config-dir"), "{error}");
        }
    }

    #[test]
    fn a_directory_in_place_of_a_file_is_told_apart() {
        for file in ["modules/notifications/config.ini", "resources.ini"] {
            let error = replaced(file, |path| fs::create_dir(path).unwrap());
            assert!(
                error.starts_with(&format!("DIR/{file} is a directory")),
                "{error}"
            );
        }
    }

    #[test]
    fn text_that_is_not_utf_8_is_named_with_its_line() {
        for file in ["modules/notifications/config.ini", "resources.ini"] {
            let error = replaced(file, |path| fs::write(path, b"[s]\n\nk = \xe4\n").unwrap());
            assert!(
                error.starts_with(&format!("DIR/{file}, line 3: not UTF-8")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_for_another_reason_says_the_reason() {
        // A link to itself: fails for root, too.
        let link = |path: &Path| std::os::unix::fs::symlink(path, path).unwrap();
        let error = replaced("resources.ini", link);
        assert!(
            error.starts_with("DIR/resources.ini cannot be read: "),
            "{error}"
        );
    }

    #[test]
    fn a_file_without_permission_advises_the_group() {
        let setup = Setup::daemon("");
        let path = setup.dir.path().join("resources.ini");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        let error = if fs::File::open(&path).is_ok() {
            // Root may read everything, so the file cannot show it; the sentence still can.
            Error::PermissionDenied {
                file: "DIR/resources.ini".into(),
            }
            .to_string()
        } else {
            setup.error()
        };
        assert!(
            error.starts_with("DIR/resources.ini: permission denied: "),
            "{error}"
        );
        assert!(error.contains("group icingaweb2"), "{error}");
    }

    #[test]
    fn a_syntax_error_names_file_and_line() {
        let error = Setup::new("[database]\nresource = db\n [x]\n", "").error();
        assert!(
            error.starts_with("DIR/modules/notifications/config.ini, line 3: a section"),
            "{error}"
        );
    }

    #[test]
    fn a_config_without_a_resource_says_which_key_to_set() {
        for config in [
            "",
            "[database]\n",
            "[database]\nresource =\n",
            "[Database]\nresource = db\n",
        ] {
            let error = Setup::new(config, "").error();
            assert!(
                error
                    .starts_with("DIR/modules/notifications/config.ini: no resource in [database]"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_unknown_resource_is_answered_with_those_there_are() {
        let error = Setup::new(RESOURCE, "[web db]\npassword = hunter2\n[a]\n").error();
        assert!(
            error.starts_with("DIR/resources.ini: no section [notifications]"),
            "{error}"
        );
        assert!(error.ends_with("[a], [web db]"), "{error}");
        assert!(Setup::new(RESOURCE, "").error().contains("no sections"));
    }
}

mod daemon {
    use super::*;

    fn host(value: &str) -> Host {
        Setup::daemon(&format!("host = {value}"))
            .config()
            .daemon
            .host
    }

    #[test]
    fn absent_or_empty_settings_mean_all_addresses_and_port_9001() {
        let default = Daemon {
            host: Host::Any,
            port: 9001,
            tuning: Tuning {
                keep_alive: Duration::from_secs(15),
                replay: Limits {
                    age: Duration::from_secs(3600),
                    incidents: 20,
                },
            },
            admin: None,
        };
        assert_eq!(
            Setup::daemon("host =\nport = \"\"").config().daemon,
            default
        );
        let none = Setup::new(RESOURCE, "[notifications]\ndb = pgsql\n");
        assert_eq!(none.config().daemon, default);
    }

    #[test]
    fn the_time_between_keep_alives_is_1_to_3600_seconds() {
        let daemon = Setup::daemon("keep_alive_seconds = 25").config().daemon;
        assert_eq!(daemon.tuning.keep_alive, Duration::from_secs(25));
        for value in ["0", "3601", "15s", "-1"] {
            let error = Setup::daemon(&format!("keep_alive_seconds = {value}")).error();
            assert!(
                error.contains("keep_alive_seconds") && error.contains("1 to 3600"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_bounds_of_a_replay_are_whole_numbers() {
        let daemon = Setup::daemon("replay_minutes = 5\nreplay_incidents = 0")
            .config()
            .daemon;
        assert_eq!(daemon.tuning.replay.age, Duration::from_secs(300));
        assert_eq!(daemon.tuning.replay.incidents, 0);
        for value in ["-1", "1h", "1.5", "99999999999"] {
            let error = Setup::daemon(&format!("replay_minutes = {value}")).error();
            assert!(
                error.contains("replay_minutes") && error.contains("whole number"),
                "{error}"
            );
        }
    }

    #[test]
    fn monitoring_asks_nowhere_unless_an_address_and_a_port_are_given() {
        for keys in ["", "admin =", "admin = \"\""] {
            assert_eq!(Setup::daemon(keys).config().daemon.admin, None, "{keys}");
        }
        for address in [
            "127.0.0.1:9002",
            "127.8.9.1:1",
            "[::1]:0",
            "[::ffff:127.0.0.1]:9002",
        ] {
            let Loaded { config, warnings } =
                Setup::daemon(&format!("admin = {address}")).load().unwrap();
            assert_eq!(config.daemon.admin, Some(address.parse().unwrap()));
            assert_eq!(warnings, [""; 0], "{address}");
        }
        for value in [
            "9002",
            "127.0.0.1",
            "localhost:9002",
            "127.0.0.1:70000",
            "::1:9002",
            "/run/admin",
            "yes please",
        ] {
            let error = Setup::daemon(&format!("admin = {value}")).error();
            let expected = "DIR/modules/notifications/config.ini, line 2, [daemon] admin: give an IP address and a port";
            assert!(error.starts_with(expected), "{value}: {error}");
        }
    }

    #[test]
    fn metrics_for_other_machines_are_warned_about() {
        for address in [
            "0.0.0.0:9002",
            "[::]:9002",
            "192.0.2.1:9002",
            "[2001:db8::1]:9002",
        ] {
            let loaded = Setup::daemon(&format!("admin = {address}")).load().unwrap();
            assert_eq!(loaded.config.daemon.admin, Some(address.parse().unwrap()));
            let [warning] = loaded.warnings.as_slice() else {
                panic!("{address}: {:?}", loaded.warnings);
            };
            for part in [
                "config.ini, line 2, [daemon] admin: ",
                address,
                "127.0.0.1:9002",
            ] {
                assert!(warning.contains(part), "{part}: {warning}");
            }
        }
    }

    #[test]
    fn the_unspecified_ipv6_address_means_ipv4_too() {
        for value in ["[::]", "::", "0::0", "[::] ; comment"] {
            assert_eq!(host(value), Host::Any, "{value}");
        }
    }

    #[test]
    fn addresses_names_and_sockets_are_told_apart() {
        let address = |text: &str| Host::Address(text.parse::<IpAddr>().unwrap());
        assert_eq!(host("[::1]"), address("::1"));
        assert_eq!(host("2001:db8::1"), address("2001:db8::1"));
        assert_eq!(host("0.0.0.0"), address("0.0.0.0"));
        assert_eq!(host("localhost"), Host::Name("localhost".to_owned()));
        assert_eq!(
            host("icinga-1.example.org."),
            Host::Name("icinga-1.example.org.".to_owned())
        );
        assert_eq!(
            host("/run/bridge/http.sock"),
            Host::Socket("/run/bridge/http.sock".into())
        );
    }

    #[test]
    fn a_host_that_cannot_be_listened_on_is_refused_by_line() {
        let bad = [
            "two words",
            "run/sock",
            "[127.0.0.1]",
            "[::1",
            "a..b",
            "-a",
            "300.1.1.1",
            "h:9001",
            "@x",
            "*",
        ];
        for value in bad {
            let error = Setup::daemon(&format!("port = 1\nhost = {value}")).error();
            let place = "DIR/modules/notifications/config.ini, line 3, [daemon] host: ";
            assert!(error.starts_with(place), "{value}: {error}");
        }
    }

    #[test]
    fn ports_are_numbers_from_0_to_65535() {
        for (text, port) in [("0", 0), ("\"65535\"", 65535), ("05", 5)] {
            let config = Setup::daemon(&format!("port = {text}")).config();
            assert_eq!(config.daemon.port, port);
        }
        for text in ["65536", "-1", "+1", "http", "90 01", "9001.0"] {
            let error = Setup::daemon(&format!("port = {text}")).error();
            assert!(
                error.contains("line 2, [daemon] port: give a port"),
                "{error}"
            );
        }
    }

    #[test]
    fn unknown_keys_are_warned_about_by_file_line_and_name() {
        let setup = Setup::daemon("host = ::1\nprot = 9002\nHost = ::2\nbare\n[other]\nx = 1");
        let warnings = setup.load().unwrap().warnings;
        let file = setup.dir.path().join("modules/notifications/config.ini");
        let warning = |line, key| {
            format!(
                "{}, line {line}: unknown key {key} in [daemon] is ignored",
                file.display()
            )
        };
        assert_eq!(
            warnings,
            [warning(3, "prot"), warning(4, "Host"), warning(5, "bare")]
        );
    }
}

mod resource {
    use super::*;

    #[test]
    fn an_empty_resource_is_libpqs_default() {
        let database = Setup::resource("").database();
        assert_eq!(
            endpoints(&database),
            [("/var/run/postgresql".to_owned(), 5432)]
        );
        assert_eq!((&database.user, &database.dbname), (&None, &None));
        assert_eq!(passwords(&database), [None]);
        assert_eq!(database.connect_timeout, Duration::from_secs(10));
        assert_eq!(
            database.tls,
            Tls {
                mode: SslMode::Prefer,
                root_cert: None,
                client: None
            }
        );
    }

    #[test]
    fn the_keys_of_the_resource_beat_the_environment() {
        let keys = "type = db\nhost = db1\nport = 5433\ndbname = n\nusername = u\npassword = \"p;w\"\ncharset = latin1";
        let setup = ["PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"]
            .iter()
            .fold(Setup::resource(keys), |setup, name| {
                setup.env(name, "environment")
            });
        let database = setup.database();
        assert_eq!(endpoints(&database), [("db1".to_owned(), 5433)]);
        assert_eq!(
            (database.user.as_deref(), database.dbname.as_deref()),
            (Some("u"), Some("n"))
        );
        assert_eq!(passwords(&database), [Some("p;w")]);
        assert_eq!(database.resource, "notifications");
    }

    #[test]
    fn the_environment_stands_in_for_absent_and_empty_keys() {
        for keys in ["", "host =\nport =\ndbname =\nusername =\npassword ="] {
            let database = Setup::resource(keys)
                .env("PGHOST", "db2")
                .env("PGPORT", "5434")
                .env("PGDATABASE", "n")
                .env("PGUSER", "u")
                .env("PGPASSWORD", "p")
                .env("PGOPTIONS", "-c search_path=x")
                .database();
            assert_eq!(endpoints(&database), [("db2".to_owned(), 5434)]);
            assert_eq!(
                (database.user.as_deref(), database.dbname.as_deref()),
                (Some("u"), Some("n"))
            );
            assert_eq!(passwords(&database), [Some("p")]);
            assert_eq!(database.options.as_deref(), Some("-c search_path=x"));
        }
    }

    #[test]
    fn the_database_is_named_like_the_user_unless_told_otherwise() {
        assert_eq!(
            Setup::resource("username = u").database().dbname.as_deref(),
            Some("u")
        );
        let from_env = Setup::resource("").env("PGUSER", "e").database();
        assert_eq!(from_env.dbname.as_deref(), Some("e"));
    }

    #[test]
    fn hosts_may_be_a_list_of_names_addresses_and_directories() {
        let database = Setup::resource("host = \"db1 , ::1,10.0.0.1, /run/pg\"").database();
        let expected = [
            Endpoint::Name("db1".to_owned()),
            Endpoint::Address("::1".parse().unwrap()),
            Endpoint::Address("10.0.0.1".parse().unwrap()),
            Endpoint::Socket("/run/pg".into()),
        ];
        assert_eq!(
            database
                .hosts
                .iter()
                .map(|host| host.endpoint.clone())
                .collect::<Vec<_>>(),
            expected
        );
        assert!(database.hosts.iter().all(|host| host.port == 5432));
    }

    #[test]
    fn one_port_serves_all_hosts_and_a_list_pairs_up() {
        let one = Setup::resource("host = a,b\nport = 6000").database();
        assert_eq!(
            endpoints(&one),
            [("a".to_owned(), 6000), ("b".to_owned(), 6000)]
        );
        let list = Setup::resource("host = a,b,c\nport = \"6000, ,6002\"").database();
        let expected =
            [("a", 6000), ("b", 5432), ("c", 6002)].map(|(host, port)| (host.to_owned(), port));
        assert_eq!(endpoints(&list), expected);
        let error = Setup::resource("host = a,b,c\nport = 1,2").error();
        assert!(
            error.starts_with(
                "DIR/resources.ini, line 4, [notifications] port: 2 entries for 3 hosts"
            ),
            "{error}"
        );
    }

    #[test]
    fn host_addresses_come_from_the_environment_alone_or_beside_names() {
        let alone = Setup::resource("")
            .env("PGHOSTADDR", "10.0.0.1,::1")
            .database();
        assert_eq!(
            endpoints(&alone),
            [("10.0.0.1".to_owned(), 5432), ("::1".to_owned(), 5432)]
        );
        let beside = Setup::resource("host = db1")
            .env("PGHOSTADDR", "10.0.0.1")
            .database();
        assert_eq!(beside.hosts[0].endpoint, Endpoint::Name("db1".to_owned()));
        assert_eq!(beside.hosts[0].hostaddr, Some("10.0.0.1".parse().unwrap()));
        let error = Setup::resource("host = a,b")
            .env("PGHOSTADDR", "10.0.0.1")
            .error();
        assert!(
            error.starts_with("environment variable PGHOSTADDR: 1 entries for 2 hosts"),
            "{error}"
        );
        let error = Setup::resource("").env("PGHOSTADDR", "db1").error();
        assert!(
            error.starts_with("environment variable PGHOSTADDR: give an IP address"),
            "{error}"
        );
    }

    #[test]
    fn a_url_as_host_is_refused_without_its_password() {
        for value in [
            "postgres://u:hunter2@db/n",
            "db:5432",
            "relative/dir",
            "a b",
            "@abstract",
        ] {
            let error = Setup::resource(&format!("host = {value}")).error();
            assert!(
                error.starts_with("DIR/resources.ini, line 3, [notifications] host: give"),
                "{error}"
            );
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = Setup::resource("").env("PGHOST", "a b").error();
        assert!(
            error.starts_with("environment variable PGHOST: "),
            "{error}"
        );
    }

    #[test]
    fn database_ports_are_numbers_from_1_to_65535() {
        for text in ["0", "65536", "x", "-1", "5432 5433"] {
            let error = Setup::resource(&format!("port = {text}")).error();
            assert!(
                error.contains("[notifications] port: give a port"),
                "{error}"
            );
        }
        let error = Setup::resource("").env("PGPORT", "x").error();
        assert!(
            error.starts_with("environment variable PGPORT: give a port"),
            "{error}"
        );
    }

    #[test]
    fn only_a_postgresql_database_is_served() {
        let error = |resources: &str| {
            Setup::new(RESOURCE, &format!("[notifications]\n{resources}\n")).error()
        };
        for system in ["mysql", "PGSQL", "oracle"] {
            let error = error(&format!("type = db\ndb = {system}"));
            assert!(error.starts_with("DIR/resources.ini, line 3, [notifications] db: the Icinga Notifications database must be PostgreSQL"), "{error}");
        }
        assert!(
            error("type = db")
                .starts_with("DIR/resources.ini, [notifications]: no key db: set db = \"pgsql\"")
        );
        assert!(
            error("type = ldap\ndb = pgsql")
                .contains("line 2, [notifications] type: this resource is not a database")
        );
    }

    #[test]
    fn the_connect_timeout_is_in_seconds_and_never_endless() {
        let timeout = |text: &str| {
            Setup::resource("")
                .env("PGCONNECT_TIMEOUT", text)
                .database()
                .connect_timeout
        };
        assert_eq!(timeout("3"), Duration::from_secs(3));
        for endless in ["0", "-1", ""] {
            assert_eq!(timeout(endless), Duration::from_secs(10));
        }
        let error = Setup::resource("").env("PGCONNECT_TIMEOUT", "1.5").error();
        assert!(
            error.starts_with("environment variable PGCONNECT_TIMEOUT: "),
            "{error}"
        );
    }
}

mod password_file {
    use super::*;

    const HOME_FILE: &str = ".pgpass";

    #[test]
    fn the_first_matching_line_gives_each_host_its_password() {
        let setup = Setup::resource("host = \"db1,db2,::1\"\nusername = u\ndbname = n").at_home();
        let lines = b"# db1:*:*:*:comment\nshort:line\ndb1:5433:*:*:port\ndb1:5432:n:u:one\ndb2:*:*:u:t\\:wo\r\n\\:\\:1:*:n:*:th:r\\\\ee\n*:*:*:*:rest\n";
        setup.file(HOME_FILE, lines, 0o600);
        assert_eq!(
            passwords(&setup.database()),
            [Some("one"), Some("t:wo"), Some("th:r\\ee")]
        );
    }

    #[test]
    fn the_default_socket_goes_by_localhost_and_others_by_their_path() {
        let setup = Setup::resource("host = \"/var/run/postgresql,/tmp\"").at_home();
        setup.file(
            HOME_FILE,
            b"localhost:*:*:*:default\n/tmp:*:*:*:other\n",
            0o400,
        );
        assert_eq!(
            passwords(&setup.database()),
            [Some("default"), Some("other")]
        );
    }

    #[test]
    fn without_a_username_lines_match_the_operating_system_user() {
        let setup = Setup::resource("").at_home().env("USER", "icinga");
        setup.file(HOME_FILE, b"*:*:*:other:no\n*:*:icinga:icinga:yes\n", 0o600);
        assert_eq!(passwords(&setup.database()), [Some("yes")]);
    }

    #[test]
    fn a_named_file_replaces_the_one_at_home() {
        let setup = Setup::resource("").at_home();
        setup.file(HOME_FILE, b"*:*:*:*:home\n", 0o600);
        let named = setup.file("named", b"*:*:*:*:named\n", 0o600);
        let setup = setup.env("PGPASSFILE", named.to_str().unwrap());
        assert_eq!(passwords(&setup.database()), [Some("named")]);
    }

    #[test]
    fn a_password_elsewhere_leaves_the_file_unread() {
        let setup = Setup::resource("").at_home().env("PGPASSWORD", "variable");
        setup.file(HOME_FILE, b"*:*:*:*:file\n", 0o644);
        assert_eq!(passwords(&setup.database()), [Some("variable")]);
    }

    #[test]
    fn a_file_open_to_others_is_ignored_with_a_warning() {
        for mode in [0o640, 0o604, 0o620] {
            let setup = Setup::resource("").at_home();
            setup.file(HOME_FILE, b"*:*:*:*:hunter2\n", mode);
            let loaded = setup.load().unwrap();
            assert_eq!(passwords(&loaded.config.database), [None]);
            assert_eq!(loaded.warnings.len(), 1);
            assert!(
                loaded.warnings[0].contains("change its mode to 0600"),
                "{:?}",
                loaded.warnings
            );
            assert!(!loaded.warnings[0].contains("hunter2"));
        }
    }

    #[test]
    fn a_named_file_that_cannot_be_used_is_warned_about() {
        let setup = Setup::resource("");
        let binary = setup.file("binary", b"*:*:*:*:\xff\n", 0o600);
        for path in [Path::new("/nonexistent/pgpass"), setup.dir.path(), &binary] {
            let setup = Setup::resource("").env("PGPASSFILE", path.to_str().unwrap());
            let loaded = setup.load().unwrap();
            assert_eq!(loaded.warnings.len(), 1, "{}", path.display());
            assert!(
                loaded.warnings[0].contains("is ignored: "),
                "{:?}",
                loaded.warnings
            );
        }
    }
}

mod tls {
    use super::*;

    /// A setup with readable files `ca`, `crt` and `key`, and these keys, in which `DIR` is their directory.
    fn setup(keys: &str) -> Setup {
        let setup = Setup::resource("").with_keys(keys);
        for name in ["ca", "crt", "key"] {
            setup.file(name, b"PEM", 0o600);
        }
        setup
    }

    fn path(setup: &Setup, name: &str) -> PathBuf {
        setup.dir.path().join(name)
    }

    fn mode(setup: &Setup) -> (SslMode, Option<PathBuf>) {
        let tls = setup.database().tls;
        (tls.mode, tls.root_cert)
    }

    #[test]
    fn use_ssl_verifies_with_the_named_authority_or_the_systems() {
        let named = setup("use_ssl = 1\nssl_ca = DIR/ca");
        assert_eq!(
            mode(&named),
            (SslMode::VerifyFull, Some(path(&named, "ca")))
        );
        assert_eq!(
            mode(&setup("use_ssl = 1\nssl_ca =")),
            (SslMode::VerifyFull, None)
        );
    }

    #[test]
    fn use_ssl_beats_the_environments_mode() {
        let setup = setup("use_ssl = yes").env("PGSSLMODE", "disable");
        assert_eq!(mode(&setup), (SslMode::VerifyFull, None));
    }

    #[test]
    fn use_ssl_without_an_authority_takes_the_one_of_the_environment() {
        let setup = setup("use_ssl = 1");
        let ca = path(&setup, "ca");
        let setup = setup.env("PGSSLROOTCERT", ca.to_str().unwrap());
        assert_eq!(mode(&setup), (SslMode::VerifyFull, Some(ca)));
        assert_eq!(
            mode(&setup.env("PGSSLROOTCERT", "system")),
            (SslMode::VerifyFull, None)
        );
    }

    #[test]
    fn not_verifying_is_require_without_an_authority() {
        let setup = setup("use_ssl = 1\nssl_ca = DIR/ca\nssl_do_not_verify_server_cert = 1");
        assert_eq!(mode(&setup), (SslMode::Require, None));
    }

    #[test]
    fn flags_take_the_usual_words_in_any_case() {
        for word in ["1", "true", "YES", "On", "y"] {
            assert_eq!(
                mode(&setup(&format!("use_ssl = {word}"))).0,
                SslMode::VerifyFull,
                "{word}"
            );
        }
        for word in ["0", "False", "no", "OFF", "n", ""] {
            assert_eq!(
                mode(&setup(&format!("use_ssl = {word}"))).0,
                SslMode::Prefer,
                "{word}"
            );
        }
        let error = setup("use_ssl = maybe").error();
        assert!(
            error.starts_with("DIR/resources.ini, line 4, [notifications] use_ssl: give 1 or 0"),
            "{error}"
        );
        let error = setup("use_ssl = 1\nssl_do_not_verify_server_cert = 2").error();
        assert!(
            error.contains("ssl_do_not_verify_server_cert: give 1 or 0"),
            "{error}"
        );
    }

    #[test]
    fn keys_of_an_unused_ssl_setup_have_no_effect() {
        let setup = setup("use_ssl = 0\nssl_ca = /nonexistent\nssl_cert = /nonexistent");
        assert_eq!(mode(&setup), (SslMode::Prefer, None));
        assert_eq!(setup.database().tls.client, None);
    }

    #[test]
    fn a_client_certificate_needs_its_key_and_the_reverse() {
        let both = setup("use_ssl = 1\nssl_cert = DIR/crt\nssl_key = DIR/key");
        let client = ClientCertificate {
            cert: path(&both, "crt"),
            key: path(&both, "key"),
        };
        assert_eq!(both.database().tls.client, Some(client));
        let error = setup("use_ssl = 1\nssl_cert = DIR/crt").error();
        assert!(
            error.contains("[notifications] ssl_cert: needs ssl_key beside it"),
            "{error}"
        );
        let error = setup("use_ssl = 1\nssl_key = DIR/key").error();
        assert!(
            error.contains("[notifications] ssl_key: needs ssl_cert beside it"),
            "{error}"
        );
        let error = setup("").env("PGSSLCERT", "/nonexistent").error();
        assert!(
            error.contains("PGSSLCERT: needs PGSSLKEY beside it"),
            "{error}"
        );
        let error = setup("").env("PGSSLKEY", "/nonexistent").error();
        assert!(
            error.contains("PGSSLKEY: needs PGSSLCERT beside it"),
            "{error}"
        );
    }

    #[test]
    fn an_unreadable_file_is_named_with_its_key() {
        // A missing file and a directory: unreadable for root, too.
        for (key, file) in [
            ("ssl_ca", "nonexistent"),
            ("ssl_ca", "modules"),
            ("ssl_cert", "modules"),
            ("ssl_key", "nonexistent"),
        ] {
            let mut keys = "use_ssl = 1\n".to_owned();
            for other in ["ssl_ca = DIR/ca", "ssl_cert = DIR/crt", "ssl_key = DIR/key"] {
                let kept = !other.starts_with(key);
                keys += &if kept {
                    format!("{other}\n")
                } else {
                    format!("{key} = DIR/{file}\n")
                };
            }
            let error = setup(&keys).error();
            assert!(
                error.contains(&format!("[notifications] {key}: DIR/{file}: ")),
                "{error}"
            );
        }
        let error = setup("").env("PGSSLROOTCERT", "/nonexistent").error();
        assert!(
            error.starts_with("environment variable PGSSLROOTCERT: /nonexistent: "),
            "{error}"
        );
    }

    #[test]
    fn the_environments_mode_is_one_of_libpqs_words() {
        for mode_of_env in ["disable", "allow", "prefer", "require"] {
            let setup = setup("").env("PGSSLMODE", mode_of_env);
            assert_eq!(mode(&setup).0.to_string(), mode_of_env);
        }
        for word in ["verify_full", "REQUIRE", "on"] {
            let error = setup("").env("PGSSLMODE", word).error();
            assert!(
                error.starts_with("environment variable PGSSLMODE: give disable, "),
                "{error}"
            );
        }
    }

    #[test]
    fn require_with_an_authority_verifies_it() {
        let setup = setup("").env("PGSSLMODE", "require");
        let ca = path(&setup, "ca");
        let setup = setup.env("PGSSLROOTCERT", ca.to_str().unwrap());
        assert_eq!(mode(&setup), (SslMode::VerifyCa, Some(ca)));
    }

    #[test]
    fn verifying_needs_an_authority() {
        for word in ["verify-ca", "verify-full"] {
            let setup = setup("").env("PGSSLMODE", word);
            let error = setup.error();
            assert!(
                error.starts_with("environment variable PGSSLMODE: no root certificate"),
                "{error}"
            );
            let ca = path(&setup, "ca");
            let setup = setup.env("PGSSLROOTCERT", ca.to_str().unwrap());
            assert_eq!(mode(&setup).0.to_string(), word);
        }
    }

    #[test]
    fn the_systems_store_always_checks_the_name() {
        let system = || setup("").env("PGSSLROOTCERT", "system");
        assert_eq!(mode(&system()), (SslMode::VerifyFull, None));
        assert_eq!(
            mode(&system().env("PGSSLMODE", "verify-full")),
            (SslMode::VerifyFull, None)
        );
        let error = system().env("PGSSLMODE", "verify-ca").error();
        assert!(error.contains("needs PGSSLMODE=verify-full"), "{error}");
    }

    #[test]
    fn files_at_home_are_used_if_they_exist() {
        let setup = Setup::resource("").at_home();
        let root = setup.file(".postgresql/root.crt", b"PEM", 0o600);
        let key = setup.file(".postgresql/postgresql.key", b"PEM", 0o600);
        assert_eq!(
            setup.database().tls,
            Tls {
                mode: SslMode::Prefer,
                root_cert: Some(root.clone()),
                client: None
            }
        );
        let cert = setup.file(".postgresql/postgresql.crt", b"PEM", 0o600);
        let setup = setup.env("PGSSLMODE", "require");
        let client = Some(ClientCertificate { cert, key });
        assert_eq!(
            setup.database().tls,
            Tls {
                mode: SslMode::VerifyCa,
                root_cert: Some(root),
                client
            }
        );
        let off = setup.env("PGSSLMODE", "disable").database().tls;
        assert_eq!(
            off,
            Tls {
                mode: SslMode::Disable,
                root_cert: None,
                client: None
            }
        );
    }
}

mod settings {
    use super::*;

    fn shown(config: &Config) -> Vec<String> {
        let settings = config.settings();
        settings
            .iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect()
    }

    #[test]
    fn the_effective_settings_are_listed_without_the_password() {
        let keys = "host = \"db1,db2\"\nport = \"5433,5434\"\ndbname = n\nusername = u\npassword = hunter2\nuse_ssl = 1";
        let config = Setup::resource(keys).config();
        let expected = [
            "daemon.host = [::]",
            "daemon.port = 9001",
            "daemon.keep_alive_seconds = 15",
            "daemon.replay_minutes = 60",
            "daemon.replay_incidents = 20",
            "daemon.admin = ",
            "database.resource = notifications",
            "database.host = db1,db2",
            "database.hostaddr = ",
            "database.port = 5433,5434",
            "database.dbname = n",
            "database.username = u",
            "database.password = ***",
            "database.sslmode = verify-full",
            "database.sslrootcert = system",
            "database.sslcert = ",
            "database.sslkey = ",
            "database.connect_timeout = 10",
            "database.options = ",
        ];
        assert_eq!(shown(&config), expected);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn one_port_for_all_hosts_is_shown_once_and_no_password_as_nothing() {
        let shown = shown(&Setup::resource("host = a,b").config());
        assert!(
            shown.contains(&"database.port = 5432".to_owned()),
            "{shown:?}"
        );
        assert!(
            shown.contains(&"database.password = ".to_owned()),
            "{shown:?}"
        );
    }

    #[test]
    fn lists_are_shown_whole_if_the_hosts_differ_in_anything() {
        let shown = shown(&Setup::resource("host = a,a,a\nport = 1,1,2").config());
        assert!(
            shown.contains(&"database.host = a,a,a".to_owned()),
            "{shown:?}"
        );
        assert!(
            shown.contains(&"database.port = 1,1,2".to_owned()),
            "{shown:?}"
        );
    }

    #[test]
    fn hosts_to_listen_on_are_shown_as_they_are_written() {
        for host in ["[::]", "[::1]", "127.0.0.1", "localhost", "/run/x.sock"] {
            let config = Setup::daemon(&format!("host = {host}")).config();
            assert_eq!(shown(&config)[0], format!("daemon.host = {host}"));
        }
    }
}
