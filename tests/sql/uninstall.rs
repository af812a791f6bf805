//! `uninstall.sql`: repeatable, and it removes nothing that others created.

use crate::common::icinga::Shape;

use super::support::{INSTALL, INSTALL_2, UNINSTALL, catalog, database_of, installed, ours};

#[tokio::test]
async fn uninstalls_twice_and_installs_after_that() {
    let database = installed(Shape::V1_0, "twice");
    for _ in 0..2 {
        let output = database.psql().file(UNINSTALL).success();
        assert_eq!(output.stderr, "");
    }
    database.psql().file(INSTALL).success();
    let session = database.connect().await;
    assert_eq!(ours(&session).await.lines().count(), 10);
}

#[tokio::test]
async fn removes_version_2_and_what_became_of_it() {
    for upgraded in [false, true] {
        let database = database_of(Shape::V0_2, "version_2");
        let session = database.connect().await;
        let before = catalog(&session).await;
        database.psql().file(INSTALL_2).success();
        if upgraded {
            database.psql().file(INSTALL).success();
        }
        let output = database.psql().file(UNINSTALL).success();
        assert_eq!(output.stderr, "");
        assert_eq!(catalog(&session).await, before, "{upgraded}");
    }
}

#[tokio::test]
async fn uninstalling_refuses_to_take_along_what_others_made() {
    let database = installed(Shape::V1_0, "others");
    let session = database.connect().await;
    session.run("CREATE TABLE icinga_desktop.mine ()").await;
    let error = database.psql().file(UNINSTALL).failure();
    assert!(
        error.contains("table icinga_desktop.mine depends on schema icinga_desktop"),
        "{error}"
    );
    assert_eq!(ours(&session).await.lines().count(), 10);
}
