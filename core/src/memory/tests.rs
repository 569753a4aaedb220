use super::*;
use crate::units::Size;

/// R17, D17: at, below and above each mark, on the way up and on the way down.
#[test]
fn r17_marks_are_exact_and_do_not_flap() {
    let mut pressure = Pressure::Calm;
    for (used, expected) in [
        (0, Pressure::Calm),
        (899, Pressure::Calm),
        (900, Pressure::Short),
        (899, Pressure::Short),
        (850, Pressure::Short),
        (849, Pressure::Calm),
        (899, Pressure::Calm),
        (949, Pressure::Short),
        (950, Pressure::Out),
        (949, Pressure::Out),
        (900, Pressure::Out),
        (899, Pressure::Short),
        (950, Pressure::Out),
        (849, Pressure::Calm),
        (2000, Pressure::Out),
        (0, Pressure::Calm),
    ] {
        pressure = pressure.after(Reading { used, limit: 1000 });
        assert_eq!(pressure, expected, "at {used}");
    }
}

#[test]
fn no_size_is_too_large_to_be_counted() {
    let full = Reading { used: u64::MAX, limit: u64::MAX };
    assert_eq!(Pressure::Calm.after(full), Pressure::Out);
    assert_eq!(full.permille(), 1000);
    assert_eq!(Reading { used: 1, limit: 0 }.permille(), 1000);
}

#[test]
fn without_a_limit_there_is_nothing_to_read() {
    let none = Cgroups::default();
    assert_eq!(read(MemoryLimit::Auto, &none), None);
    let limit = Size::bytes(1 << 30);
    let reading = read(MemoryLimit::Bytes(limit), &none).unwrap();
    assert_eq!(reading.limit, 1 << 30);
    // This process has some, and less than all there is.
    assert!((1 << 20..1 << 40).contains(&reading.used), "{reading:?}");
}
