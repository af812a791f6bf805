//! The oldest Rust version that builds this: the one in `Cargo.toml` is enough for the dependencies, and is the one in the
//! manual. clippy's `incompatible_msrv` checks that our own code uses nothing newer.

use std::process::Command;

use serde_json::Value;

/// A version's numbers, so that they compare.
fn numbers(version: &str) -> Vec<u32> {
    let mut numbers: Vec<u32> = (version.split('.'))
        .map(|number| number.parse().expect("a number"))
        .collect();
    numbers.resize(3, 0);
    numbers
}

#[test]
fn no_dependency_needs_a_newer_rust() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{output:?}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "{} packages", packages.len());
    let ours = numbers(env!("CARGO_PKG_RUST_VERSION"));
    for package in packages {
        if let Some(version) = package["rust_version"].as_str() {
            assert!(
                numbers(version) <= ours,
                "{} needs Rust {version}",
                package["name"]
            );
        }
    }
}

#[test]
fn the_manual_and_the_test_command_name_the_same_rust() {
    let expected = format!("Rust {}", env!("CARGO_PKG_RUST_VERSION"));
    for (file, text) in [
        ("README.md", include_str!("../../README.md")),
        ("doc/install.md", include_str!("../../doc/install.md")),
        ("CONTRIBUTING.md", include_str!("../../CONTRIBUTING.md")),
        ("tests/run.sh", include_str!("../run.sh")),
    ] {
        assert!(
            text.replace("Rust (", "Rust ").contains(&expected),
            "{file} does not say {expected}"
        );
    }
}
