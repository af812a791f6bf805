//! The real Icinga Director, unpacked from Debian's packages by `tests/run.sh`, with its own database.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::contents::output;
use crate::common::command::Said;
use crate::common::icinga2::icinga2;
use crate::common::postgres::{Cluster, Database, SUPERUSER};
use crate::common::world::resource;

/// The directory of the unpacked packages.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/director");

/// An empty Director.
struct Director {
    config: TempDir,
    database: Database,
}

impl Director {
    fn new(cluster: &Cluster) -> Self {
        let modules = format!("{ROOT}/usr/share/icingaweb2/modules");
        assert!(Path::new(&modules).exists(), "no {ROOT}: sh tests/run.sh");
        let database = cluster.database("director");
        database
            .psql()
            .command("CREATE EXTENSION pgcrypto")
            .success();
        let config = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: String| {
            let file = config.path().join(name);
            fs::create_dir_all(file.parent().expect("a directory")).expect("directories");
            fs::write(file, text).expect("a file");
        };
        write(
            "config.ini",
            format!("[global]\nmodule_path = \"{modules}\"\n"),
        );
        write(
            "modules/director/config.ini",
            "[db]\nresource = \"director\"\n".to_owned(),
        );
        let reached = resource(&database, SUPERUSER);
        write(
            "resources.ini",
            format!(
                "[director]\ntype = \"db\"\ndb = \"pgsql\"\ncharset = \"utf8\"\npassword = \"\"\n{reached}\n"
            ),
        );
        // Like icingacli, but with other paths.
        write(
            "icingacli.php",
            format!(
                "<?php require_once '{ROOT}/usr/share/php/Icinga/Application/Cli.php';\n\
                 Icinga\\Application\\Cli::start('{ROOT}/usr/share/icingaweb2', '{}')->dispatch();\n",
                config.path().display()
            ),
        );
        let enabled = config.path().join("enabledModules");
        fs::create_dir(&enabled).expect("a directory");
        for module in ["director", "incubator", "reactbundle"] {
            symlink(format!("{modules}/{module}"), enabled.join(module)).expect("a link");
        }
        let director = Self { config, database };
        director.run(&["migration", "run"], None);
        director
    }

    /// Runs one of its commands, which must succeed; its output.
    fn run(&self, arguments: &[&str], input: Option<&Path>) -> String {
        let php = format!("{ROOT}/usr/share/php");
        let input = input.map_or(Stdio::null(), |file| {
            fs::File::open(file).expect("the file").into()
        });
        output(
            Command::new("php")
                .env("ICINGAWEB_LIBDIR", format!("{ROOT}/usr/share/icinga-php"))
                .arg("-d")
                .arg(format!("include_path={php}"))
                .arg(self.config.path().join("icingacli.php"))
                .arg("director")
                .args(arguments)
                .stdin(input),
        )
    }
}

/// It imports the basket, without changes the second time, and Icinga 2 accepts the configuration that it makes.
pub(super) fn director_imports(basket: &Path) {
    let cluster = Cluster::private();
    let director = Director::new(&cluster);
    let fields = "SELECT string_agg(f.varname, ' ' ORDER BY f.varname) FROM director_datafield f \
                  JOIN icinga_command_field c ON c.datafield_id = f.id";
    for _ in 0..2 {
        let said = director.run(&["basket", "restore"], Some(basket));
        assert!(said.contains("have been restored"), "{said}");
        let linked = director.database.psql().command(fields).success();
        let all = "desktop_bridge_admin desktop_bridge_critical desktop_bridge_warning\n";
        assert!(linked.stdout.contains(all), "{}", linked.stdout);
    }
    let mut rendered = String::new();
    for kind in ["command", "service"] {
        rendered += &director.run(&[kind, "show", "desktop-bridge", "--resolved"], None);
    }
    rendered += "apply Service \"bridge\" { import \"desktop-bridge\"\n assign where host.vars.desktop_bridge }\n";
    let directory = tempfile::tempdir().expect("a temporary directory");
    let said = Said::by(icinga2(directory.path(), &rendered, "", "").arg("--validate"));
    assert_eq!(said.code, Some(0), "{rendered}\n{said}");
    assert!(
        said.to_string().contains("Instantiated 1 Service."),
        "{said}"
    );
}
