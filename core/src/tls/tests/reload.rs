//! Files that change under a running listener.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::support::{Ca, der, meet, replace, serving, shake, shown};
use crate::tls::{CertificatePair, ClientAuth, Reload, ServerSettings, ServerTls};

/// Looks until a change has been acted on.
fn act(server: &ServerTls) -> Reload {
    assert_eq!(server.check_files(), Reload::Settling);
    let reload = server.check_files();
    assert_eq!(server.check_files(), Reload::Unchanged, "said once");
    reload
}

fn refused(reload: Reload) -> String {
    match reload {
        Reload::Refused(sentence) => sentence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_new_pair_serves_new_connections_and_open_ones_go_on() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    let before = std::fs::read_to_string(ca.path("server.pem")).unwrap();
    assert_eq!(server.check_files(), Reload::Unchanged);
    let (accepted, connected) = shake(&server, &ca.client("a.test", &[])).await;
    let ((mut ours, _), mut theirs) = (accepted.unwrap(), connected.unwrap());
    assert_eq!(shown(&theirs), der(&before));

    let leaf = ca.leaf(&["a.test"]);
    ca.write("server", &leaf);
    assert_eq!(act(&server), Reload::Swapped);
    assert_eq!(server.generation(), 2);
    let (_, stream) = meet(&server, &ca.client("a.test", &[])).await;
    assert_eq!(shown(&stream), der(&leaf.0));
    ours.write_all(b"still here").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut said = String::new();
    theirs.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "still here");
}

#[tokio::test]
async fn a_broken_pair_is_refused_once_and_the_old_one_serves() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    let old = std::fs::read_to_string(ca.path("server.pem")).unwrap();
    let old_key = std::fs::read_to_string(ca.path("server.key")).unwrap();
    let next = ca.leaf(&["a.test"]);

    replace(&ca.path("server.pem"), &next.0); // the key has not come yet
    assert!(refused(act(&server)).contains("does not belong to the certificate"));
    replace(&ca.path("server.pem"), "garbage");
    assert!(refused(act(&server)).contains("holds no PEM certificate"));
    std::fs::remove_file(ca.path("server.pem")).unwrap();
    assert!(refused(act(&server)).contains("does not exist"));
    replace(&ca.path("server.pem"), &next.0[..next.0.len() / 2]);
    assert!(refused(act(&server)).contains("cut off"));
    assert_eq!(server.generation(), 1);
    assert_eq!(shown(&meet(&server, &ca.client("a.test", &[])).await.1), der(&old));

    // Back to the first pair, then on to the complete new one.
    replace(&ca.path("server.pem"), &old);
    replace(&ca.path("server.key"), &old_key);
    assert_eq!(act(&server), Reload::Swapped);
    ca.write("server", &next);
    assert_eq!(act(&server), Reload::Swapped);
    assert_eq!(server.generation(), 3);
    assert_eq!(shown(&meet(&server, &ca.client("a.test", &[])).await.1), der(&next.0));
}

#[test]
fn a_pair_written_in_two_steps_is_not_taken_half() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    let next = ca.leaf(&["a.test"]);
    std::fs::write(ca.path("server.pem"), &next.0).unwrap(); // in place, not by rename
    assert_eq!(server.check_files(), Reload::Settling);
    std::fs::write(ca.path("server.key"), &next.1).unwrap();
    assert_eq!(server.check_files(), Reload::Settling, "it changed again");
    assert_eq!(server.check_files(), Reload::Swapped);
}

#[test]
fn a_touched_file_is_no_change() {
    let ca = Ca::new();
    let server = ca.server(&["a.test"], &[]);
    let same = std::fs::read_to_string(ca.path("server.pem")).unwrap();
    replace(&ca.path("server.pem"), &same);
    assert_eq!(server.check_files(), Reload::Unchanged);
    // And one that was touched and changed within one tick of the file system's clock is one.
    let at = std::fs::metadata(ca.path("server.pem")).unwrap().modified().unwrap();
    let next = ca.leaf(&["a.test"]);
    for (name, content) in [("server.pem", &next.0), ("server.key", &next.1)] {
        std::fs::write(ca.path(name), content).unwrap();
        std::fs::File::options().write(true).open(ca.path(name)).unwrap().set_modified(at).unwrap();
    }
    assert_eq!(act(&server), Reload::Swapped);
}

/// Kubernetes mounts a secret as links into `..data`, itself a link that is swapped by rename.
#[test]
fn a_swapped_symbolic_link_is_seen() {
    use std::os::unix::fs::symlink;
    let ca = Ca::new();
    let version = |name: &str| {
        std::fs::create_dir(ca.path(name)).unwrap();
        ca.pair(&format!("{name}/tls"), &["a.test"]);
        symlink(name, ca.path("..data_tmp")).unwrap();
        std::fs::rename(ca.path("..data_tmp"), ca.path("..data")).unwrap();
    };
    version("..1");
    symlink(Path::new("..data/tls.pem"), ca.path("tls.pem")).unwrap();
    symlink(Path::new("..data/tls.key"), ca.path("tls.key")).unwrap();
    let pair = CertificatePair { cert: ca.path("tls.pem"), key: ca.path("tls.key") };
    let server = ServerTls::new(serving(pair), &[]).unwrap();
    version("..2");
    assert_eq!(act(&server), Reload::Swapped);
    std::fs::remove_dir_all(ca.path("..1")).unwrap();
    assert_eq!(server.check_files(), Reload::Unchanged);
}

/// T41, CVE-2026-27586: authorities that cannot be read never mean "anybody".
#[tokio::test]
async fn t41_client_authorities_that_cannot_be_read_close_the_door() {
    let ca = Ca::new();
    let pair = ca.pair("server", &["a.test"]);
    let trusted = ca.path("clients.pem");
    let with = |client_auth| ServerSettings {
        client_ca: Some(trusted.clone()),
        client_auth,
        ..serving(pair.clone())
    };
    let half = &ca.pem[..ca.pem.len() / 2];
    let not_a_certificate = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let broken = [
        (None, "does not exist"),
        (Some(""), "is empty"),
        (Some("garbage"), "holds no PEM certificate"),
        (Some(half), "cut off"),
        (Some(not_a_certificate), "cannot be used"),
    ];
    let put = |content: Option<&str>| match content {
        Some(content) => replace(&trusted, content),
        None => {
            let _ = std::fs::remove_file(&trusted);
        }
    };
    for (content, part) in broken {
        put(content);
        for auth in [None, Some(ClientAuth::Required), Some(ClientAuth::Optional)] {
            let sentence = ServerTls::new(with(auth), &[]).unwrap_err();
            assert!(sentence.contains(part), "{sentence}");
            assert!(sentence.contains("clients.pem"), "{sentence}");
        }
    }
    put(Some(&ca.pem));
    let server = ServerTls::new(with(None), &[]).unwrap();
    let (known, nobody) = (ca.client_showing("a.test", &["u.test"]), ca.client("a.test", &[]));
    for (content, part) in broken {
        put(content);
        assert!(refused(act(&server)).contains(part));
        assert!(shake(&server, &nobody).await.0.is_err());
        assert!(meet(&server, &known).await.0.client.is_some());
    }
    assert_eq!(server.generation(), 1);
}

#[tokio::test]
async fn r23_a_hundred_rotations_fail_no_handshake() {
    let ca = Ca::new();
    let server = Arc::new(ca.server(&["a.test"], &[]));
    let client = ca.client("a.test", &[]);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (server, client, stop) = (server.clone(), client.clone(), stop.clone());
            tokio::spawn(async move {
                let mut met = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) || met == 0 {
                    meet(&server, &client).await;
                    met += 1;
                }
            })
        })
        .collect();
    for _ in 0..100 {
        ca.pair("server", &["a.test"]);
        assert_eq!(server.check_files(), Reload::Settling);
        tokio::task::yield_now().await;
        assert_eq!(server.check_files(), Reload::Swapped);
        tokio::task::yield_now().await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(server.generation(), 101);
}

#[tokio::test(start_paused = true)]
async fn watching_takes_changes_and_ends_with_the_listener() {
    let ca = Ca::new();
    let server = Arc::new(ca.server(&["a.test"], &[]));
    let watching = tokio::spawn(server.watch());
    ca.pair("server", &["a.test"]);
    while server.generation() == 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(server);
    watching.await.unwrap();
}
