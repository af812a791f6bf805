//! The resource: hosts, ports, names, and defaults.

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
fn the_environment_replaces_absent_and_empty_keys() {
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
fn the_database_is_named_like_the_user_unless_configured() {
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
        error.starts_with("DIR/resources.ini, line 4, [notifications] port: 2 entries for 3 hosts"),
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
    let error =
        |resources: &str| Setup::new(RESOURCE, &format!("[notifications]\n{resources}\n")).error();
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
