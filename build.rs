//! Links the program at a fixed address, on Linux with glibc. Moved elsewhere at every start, it has 22,000 pointers in
//! 100 pages to correct first; a client that lives for three milliseconds, and the keeper in front of every first spawn, would
//! pay for that each time, and every fork would copy those pages. Stack, heap and libraries have random addresses still.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bin=devrun=-no-pie");
    }
}
