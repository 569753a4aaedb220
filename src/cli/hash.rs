//! `hash-password`: what `--user` and `users` take.

// Doc comments of flags are the text of `--help`, which is no Markdown.
#![allow(clippy::doc_markdown)]

use std::io::{IsTerminal as _, Read, Write as _};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use clap::Args;

use super::{EXIT_FAILURE, EXIT_USAGE, Invocation, Output};

/// Longest password read. PHC hashes take more, people do not.
const PASSWORD_BYTES_MAX: u64 = 1024;

/// Hash a password read from standard input, for --user and `users`
#[derive(Debug, Args)]
#[command(after_help = "\
The password is read from standard input up to the end or the first line break, so that it is
neither in the history of the shell nor in the list of processes. The hash is Argon2id with a
salt of its own: the same password gives another hash each time.

Examples:
  Type it (then Enter):
    gwproxy hash-password
  From a file or another program:
    gwproxy hash-password < password.txt
  Straight into a flag:
    gwproxy http --forward --user \"ann:$(gwproxy hash-password < password.txt)\"")]
pub(super) struct HashPasswordArgs {}

impl HashPasswordArgs {
    // A method like those of the other commands.
    #[allow(clippy::unused_self)]
    pub(super) fn invocation(self, stdin: &mut dyn Read) -> Invocation {
        if std::io::stdin().is_terminal() {
            // Whoever forgot to pipe something in sees why nothing happens.
            let _ = write!(std::io::stderr(), "Password (it is shown as you type): ");
        }
        Invocation::Done(hash_password(stdin))
    }
}

fn hash_password(stdin: &mut dyn Read) -> Output {
    let password = match first_line(stdin) {
        Ok(password) => password,
        Err(error) => {
            let sentence = format!("cannot read the password from standard input: {error}");
            return Output::failed(EXIT_FAILURE, &sentence);
        }
    };
    if password.is_empty() {
        return Output::failed(EXIT_USAGE, "the password is empty; give it on standard input");
    }
    if password.len() as u64 > PASSWORD_BYTES_MAX {
        let sentence = format!("the password is longer than {PASSWORD_BYTES_MAX} bytes");
        return Output::failed(EXIT_USAGE, &sentence);
    }
    match Argon2::default().hash_password(&password) {
        Ok(hash) => Output::said(format!("{hash}\n")),
        Err(error) => Output::failed(EXIT_FAILURE, &format!("cannot hash the password: {error}")),
    }
}

/// Byte by byte, so that what follows a line break stays for whoever reads next.
fn first_line(stdin: &mut dyn Read) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() as u64 <= PASSWORD_BYTES_MAX + 1 {
        match stdin.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte == [b'\n'] => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}
