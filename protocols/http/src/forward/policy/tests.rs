use super::*;

fn policy(allow: &[&str], deny: &[&str]) -> Policy {
    let rules = |list: &[&str]| list.iter().map(|rule| rule.parse().unwrap()).collect();
    Policy { allow: rules(allow), deny: rules(deny), ..Policy::default() }
}

fn at(text: &str) -> HostPort {
    text.parse().unwrap()
}

/// The verdict on a name that resolves to `ip`.
fn reaches(policy: &Policy, form: Form, host: &str, ip: &str) -> bool {
    let at = at(host);
    let addr = SocketAddr::new(ip.parse().unwrap(), at.port);
    let Ok(named) = policy.judge_name(form, &at) else { return false };
    policy.judge_addr(form, named, addr).is_ok()
}

/// T32 and the rest of the special ranges.
const PRIVATE: [&str; 58] = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.1.2.3",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::10.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:a9fe:a9fe::1",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:c0a8:101::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
];

/// T32 and the rest of RFC 6890.
#[test]
fn t32_nothing_private_local_or_reserved_is_reached_by_default() {
    let open = Policy::default();
    for ip in PRIVATE {
        let addr = SocketAddr::new(ip.parse().unwrap(), 443);
        for named in [Named::Open, Named::Listed] {
            let verdict = open.judge_addr(Form::Connect, named, addr);
            assert_eq!(verdict, Err(Prohibited::NotGlobal), "{ip}");
        }
        let mut loose = open.clone();
        loose.allow_private = true;
        assert_eq!(loose.judge_addr(Form::Connect, Named::Open, addr), Ok(()), "{ip}");
    }
}

#[test]
fn the_public_internet_is_reached_by_default() {
    for ip in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "168.63.129.17",
        "169.253.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2001:4860:4860::8888",
        "2002:808:808::1",
        "2606:4700:4700::1111",
        "2a00:1450::1",
    ] {
        assert!(reaches(&Policy::default(), Form::Connect, "name.example:443", ip), "{ip}");
    }
}

/// T32: ports 25, 22 and their like.
#[test]
fn t32_ports_of_other_protocols_are_refused() {
    let open = Policy::default();
    let asks = |form, port: u16| open.judge_name(form, &at(&format!("a.example:{port}"))).is_ok();
    for port in [1, 22, 25, 80, 444, 993, 8443, 65535] {
        assert!(!asks(Form::Connect, port), "{port}");
    }
    assert!(asks(Form::Connect, 443));
    for port in [1, 22, 25, 110, 445, 1023] {
        assert!(!asks(Form::Absolute, port), "{port}");
    }
    for port in [80, 443, 1024, 8080, 65535] {
        assert!(asks(Form::Absolute, port), "{port}");
    }
    let only = Policy { ports: Ports::Only(vec![22]), ..Policy::default() };
    assert!(only.judge_name(Form::Connect, &at("a.example:22")).is_ok());
    assert!(only.judge_name(Form::Connect, &at("a.example:443")).is_err());
    assert!(only.judge_name(Form::Absolute, &at("a.example:80")).is_err());
}

#[test]
fn deny_wins_over_everything() {
    let rules = policy(
        &["*.example", "example.org", "10.0.0.0/8"],
        &["bad.example", "*.bad.example", "example.org:8443", "10.1.0.0/16", "8.8.4.4"],
    );
    let public = "8.8.8.8";
    let connects = |host: &str, ip: &str| reaches(&rules, Form::Connect, host, ip);
    assert!(connects("good.example:443", public));
    assert!(!connects("bad.example:443", public));
    assert!(!connects("bad.example.:443", public), "the final dot is no way around");
    assert!(!connects("BAD.example:443", public));
    assert!(!connects("a.bad.example:443", public));
    assert!(!connects("good.example:443", "8.8.4.4"), "denied by the address dialled");
    assert!(connects("10.2.0.1:443", "10.2.0.1"));
    assert!(!connects("10.1.0.1:443", "10.1.0.1"));
    assert!(!connects("good.example:443", "10.1.0.1"));
    assert!(connects("example.org:443", public));
    assert!(!reaches(&rules, Form::Absolute, "example.org:8443", public));
    let mut loose = policy(&[], &["10.0.0.0/8", "127.0.0.1:22"]);
    loose.allow_private = true;
    assert!(!reaches(&loose, Form::Connect, "a.example:443", "10.0.0.1"));
    // However it is written: mapped, translated, 6to4, compatible.
    for ip in ["::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::", "::10.0.0.1"] {
        assert!(!reaches(&loose, Form::Connect, "a.example:443", ip), "{ip}");
    }
    assert!(reaches(&loose, Form::Connect, "127.0.0.1:443", "127.0.0.1"));
    loose.ports = Ports::Only(vec![22]);
    assert!(!reaches(&loose, Form::Connect, "127.0.0.1:22", "127.0.0.1"));
}

#[test]
fn a_list_of_what_is_allowed_allows_nothing_else() {
    let rules = policy(&["example.com", "*.example.org", "git.example:22", "9.9.9.0/24"], &[]);
    let connects = |host: &str, ip: &str| reaches(&rules, Form::Connect, host, ip);
    assert!(connects("example.com:443", "8.8.8.8"));
    assert!(!connects("www.example.com:443", "8.8.8.8"));
    assert!(connects("www.example.org:443", "8.8.8.8"));
    assert!(!connects("example.org:443", "8.8.8.8"));
    assert!(connects("git.example:22", "8.8.8.8"), "a rule with a port permits that port");
    assert!(!connects("git.example:443", "8.8.8.8"));
    assert!(!connects("example.com:22", "8.8.8.8"), "and only for what it names");
    assert!(connects("9.9.9.9:443", "9.9.9.9"));
    assert!(connects("other.example:443", "9.9.9.9"), "a network allows by address");
    assert!(!connects("other.example:443", "8.8.8.8"));
    assert!(!connects("9.9.9.9:22", "9.9.9.9"));
}

#[test]
fn a_name_that_is_not_allowed_is_not_even_resolved() {
    let rules = policy(&["example.com"], &[]);
    let verdict = rules.judge_name(Form::Connect, &at("secret.attacker.example:443"));
    assert_eq!(verdict.unwrap_err().code(), Code::DestinationDenied);
}

#[test]
fn private_addresses_are_allowed_by_naming_them() {
    let connects = |allow: &[&str], host: &str, ip: &str| {
        reaches(&policy(allow, &[]), Form::Connect, host, ip)
    };
    assert!(connects(&["10.0.0.5"], "10.0.0.5:443", "10.0.0.5"));
    assert!(connects(&["10.0.0.0/24"], "db.corp:443", "10.0.0.7"));
    assert!(!connects(&["10.0.0.0/24"], "db.corp:443", "10.0.1.7"));
    assert!(connects(&["127.0.0.1:8080"], "localhost:8080", "127.0.0.1"));
    assert!(!connects(&["127.0.0.1:8080"], "localhost:443", "127.0.0.1"));
    assert!(connects(&["fd00::/8"], "[fd00::1]:443", "fd00::1"));
    assert!(connects(&["168.63.129.16"], "168.63.129.16:443", "168.63.129.16"));
    // A name says nothing about where it leads.
    assert!(!connects(&["db.corp"], "db.corp:443", "10.0.0.7"));
    assert!(connects(&["db.corp", "10.0.0.7:443"], "db.corp:443", "10.0.0.7"), "as it is told");
    assert!(connects(&["db.corp", "10.0.0.7"], "db.corp:443", "10.0.0.7"));
    // "The whole Internet" has the private networks not in it.
    for everything in ["0.0.0.0/0", "::/0", "128.0.0.0/1"] {
        for ip in ["169.254.169.254", "192.168.0.1", "fd00:ec2::254", "::1"] {
            assert!(!connects(&[everything], "a.example:443", ip), "{everything} {ip}");
        }
    }
    assert!(connects(&["0.0.0.0/0"], "a.example:443", "8.8.8.8"));
}

/// T33: one prohibited address in a set is left out; the others are what is dialled.
#[test]
fn t33_only_vetted_addresses_are_left_of_a_mixed_set() {
    let open = Policy::default();
    let addrs = |list: &[&str]| -> Rc<[SocketAddr]> {
        list.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 443)).collect()
    };
    let vet = |list: &[&str]| {
        open.judge_addrs(Form::Connect, Named::Open, &at("a.example:443"), &addrs(list))
    };
    let mixed = ["127.0.0.1", "8.8.8.8", "::1", "2606:4700::1", "::ffff:10.0.0.1"];
    assert_eq!(vet(&mixed).unwrap(), addrs(&["8.8.8.8", "2606:4700::1"]));
    let clean = addrs(&["8.8.8.8", "1.1.1.1"]);
    let kept = open.judge_addrs(Form::Connect, Named::Open, &at("a.example:443"), &clean);
    assert!(Rc::ptr_eq(&kept.unwrap(), &clean), "the usual case copies nothing");
    let refused = vet(&["127.0.0.1", "10.0.0.1"]).unwrap_err();
    assert_eq!(refused.code(), Code::DestinationDenied);
    assert!(refused.sentence().contains("127.0.0.1:443"), "{refused}");
    for remedy in ["`--allow 127.0.0.1:443`", "`--allow-private`"] {
        assert!(refused.sentence().contains(remedy), "{refused}");
    }
    assert!(refused.is_unsent());
    let many: Vec<String> = (1..=20).map(|i| format!("8.8.8.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(vet(&many).unwrap().len(), ADDRS_MAX);
    assert_eq!(vet(&[]).unwrap_err().code(), Code::DestinationDenied);
}
