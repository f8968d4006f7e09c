//! The certificate authority and its files.

use std::time::Duration;

use domain::{DeploymentId, TimestampMs};
use transport::pki::{CERTIFICATE_VALIDITY, Renewal, open_ca};
use transport::{Credentials, CredentialsError, IdentityError, PkiError, Role, pki};

use crate::support::{Deployment, NODE, NOW_MS, mode};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn keys_are_readable_by_their_owner_alone() {
    let deployment = Deployment::new(1);
    let ca = deployment.dir.path().join("ca");
    let files = deployment.issue(NODE);
    assert_eq!(mode(&ca), 0o700);
    assert_eq!(mode(&ca.join("ca.key")), 0o600);
    assert_eq!(mode(&files.key), 0o600);
    assert_eq!(mode(files.key.parent().unwrap()), 0o700);
}

#[test]
fn a_ca_is_never_overwritten() {
    let deployment = Deployment::new(1);
    let again = pki::create_ca(
        &deployment.dir.path().join("ca"),
        deployment.id,
        TimestampMs(NOW_MS),
    );
    assert!(matches!(again, Err(PkiError::Exists(_))), "{again:?}");
}

#[test]
fn a_ca_opens_for_its_own_deployment_only() {
    let deployment = Deployment::new(1);
    let dir = deployment.dir.path().join("ca");
    let opened = open_ca(&dir, deployment.id).unwrap();
    assert_eq!(opened.certificate_pem(), deployment.ca.certificate_pem());
    // What the opened CA issues is trusted by who trusts the made one.
    opened
        .issue(NODE, &deployment.process_dir(NODE), DAY, deployment.time())
        .unwrap();
    let files = transport::CertificateFiles::in_dir(&deployment.process_dir(NODE));
    assert_eq!(
        Credentials::load(files, deployment.id, deployment.clock())
            .unwrap()
            .own()
            .role,
        NODE
    );
    let other = open_ca(&dir, DeploymentId([9; 32]));
    assert!(
        matches!(
            other,
            Err(PkiError::Identity(IdentityError::OtherDeployment))
        ),
        "{other:?}"
    );
}

#[test]
fn a_renewed_certificate_keeps_key_and_role() {
    let deployment = Deployment::new(1);
    let dir = deployment.process_dir(NODE);
    let first = deployment
        .ca
        .issue(NODE, &dir, 30 * DAY, deployment.time())
        .unwrap();

    deployment.advance(19 * DAY);
    let early = deployment
        .ca
        .renew_if_due(&dir, 30 * DAY, deployment.time())
        .unwrap();
    assert_eq!(
        early,
        Renewal::NotDue {
            not_after: first.not_after
        }
    );

    deployment.advance(2 * DAY);
    let due = deployment
        .ca
        .renew_if_due(&dir, 30 * DAY, deployment.time())
        .unwrap();
    let end = TimestampMs(deployment.time().0 + 30 * 86_400_000);
    assert_eq!(due, Renewal::Renewed { not_after: end });
    let own = Credentials::load(first.files, deployment.id, deployment.clock())
        .unwrap()
        .own();
    assert_eq!(
        (own.node_id(), own.role, own.not_after),
        (first.node_id, NODE, end)
    );
}

#[test]
fn an_ended_certificate_is_renewed_all_the_same() {
    let deployment = Deployment::new(1);
    let files = deployment.issue(Role::Gateway);
    deployment.advance(400 * DAY);
    let ended = Credentials::load(files.clone(), deployment.id, deployment.clock());
    assert!(
        matches!(ended, Err(CredentialsError::Identity { .. })),
        "{ended:?}"
    );
    let dir = deployment.process_dir(Role::Gateway);
    let renewed = deployment
        .ca
        .renew_if_due(&dir, CERTIFICATE_VALIDITY, deployment.time())
        .unwrap();
    assert!(matches!(renewed, Renewal::Renewed { .. }));
    Credentials::load(files, deployment.id, deployment.clock()).unwrap();
}

#[test]
fn a_certificate_of_another_ca_is_not_renewed() {
    let (ours, theirs) = (Deployment::new(1), Deployment::new(1));
    theirs.issue(NODE);
    ours.advance(29 * DAY);
    let result = ours
        .ca
        .renew_if_due(&theirs.process_dir(NODE), 30 * DAY, ours.time());
    assert!(
        matches!(result, Err(PkiError::Identity(IdentityError::Chain(_)))),
        "{result:?}"
    );
}

#[test]
fn files_that_do_not_belong_together_do_not_load() {
    let deployment = Deployment::new(1);
    let node = deployment.issue(NODE);
    let gateway = deployment.issue(Role::Gateway);
    let load = |files| Credentials::load(files, deployment.id, deployment.clock()).map(|_| ());

    let mut mixed = node.clone();
    mixed.key = gateway.key.clone();
    assert!(matches!(load(mixed), Err(CredentialsError::Key { .. })));

    let mut swapped = node.clone();
    swapped.certificate = node.key.clone();
    assert!(matches!(
        load(swapped),
        Err(CredentialsError::File(PkiError::Malformed { .. }))
    ));

    let mut missing = node.clone();
    missing.key = node.key.with_extension("gone");
    assert!(matches!(
        load(missing),
        Err(CredentialsError::File(PkiError::Io { .. }))
    ));

    let wrong = Credentials::load(node, DeploymentId([2; 32]), deployment.clock());
    assert!(matches!(
        wrong,
        Err(CredentialsError::Identity {
            source: IdentityError::OtherDeployment,
            ..
        })
    ));
}

#[test]
fn a_running_process_takes_its_renewed_certificate_and_no_one_elses() {
    let deployment = Deployment::new(1);
    let files = deployment.issue(NODE);
    let credentials = Credentials::load(files.clone(), deployment.id, deployment.clock()).unwrap();
    assert!(!credentials.reload().unwrap());

    deployment.advance(25 * DAY);
    deployment
        .ca
        .renew_if_due(&deployment.process_dir(NODE), 30 * DAY, deployment.time())
        .unwrap();
    let before = credentials.own().not_after;
    assert!(credentials.reload().unwrap());
    assert!(credentials.own().not_after > before);

    let other = deployment.issue(Role::Node { slot: 4 });
    std::fs::copy(&other.certificate, &files.certificate).unwrap();
    std::fs::copy(&other.key, &files.key).unwrap();
    let changed = credentials.reload();
    assert!(
        matches!(changed, Err(CredentialsError::Changed { .. })),
        "{changed:?}"
    );
    assert_eq!(credentials.own().role, NODE);

    std::fs::write(&files.certificate, "nonsense").unwrap();
    assert!(credentials.reload().is_err());
    assert_eq!(credentials.own().role, NODE);
}
