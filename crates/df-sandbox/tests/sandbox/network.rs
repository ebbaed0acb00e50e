//! No way out, loopback within. Everything aimed at is a listener of the test's own.

#![expect(clippy::disallowed_types, reason = "the listeners that must not be reached")]

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::{check, text, workshop};

#[test]
fn listeners_of_the_host_are_out_of_reach() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = format!("df-sandbox-test-{}", tcp.local_addr().unwrap().port());
    let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    unix.set_nonblocking(true).unwrap();
    let outcome = workshop().run(&format!(
        "print(attempt(socket.create_connection, ('127.0.0.1', {})))\nsocket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {}))\nprint(attempt(socket.socket(socket.AF_UNIX).connect, '\\0{name}'))",
        tcp.local_addr().unwrap().port(),
        udp.local_addr().unwrap().port(),
    ));
    assert_eq!(text(&outcome), "ECONNREFUSED\nECONNREFUSED\n");
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(udp.recv(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(unix.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn there_is_no_interface_or_route_but_loopback() {
    check(
        "print([l.split(':')[0].strip() for l in open('/proc/net/dev').readlines()[2:]], open('/proc/net/route').readlines()[1:])",
        "['lo'] []",
    );
}

#[test]
fn loopback_works_inside() {
    check(
        "s = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(s.getsockname())\na, _ = s.accept()\nc.send(b'hello'); print(a.recv(5).decode(), socket.gethostbyname('localhost'))\nu = socket.create_server(('::1', 0), family=socket.AF_INET6); print(attempt(socket.create_connection, u.getsockname()[:2]))",
        "hello 127.0.0.1\nok",
    );
}

#[test]
fn other_socket_families_and_raw_sockets_are_refused() {
    check(
        "for family, kind in [(16, 3), (16, 2), (17, 3), (17, 2), (40, 1), (38, 5), (29, 3), (44, 3)]: print(family, attempt(socket.socket, family, kind))",
        "16 EPERM\n16 EAFNOSUPPORT\n17 EPERM\n17 EAFNOSUPPORT\n40 EAFNOSUPPORT\n38 EAFNOSUPPORT\n29 EPERM\n44 EPERM",
    );
    check(
        "for family in [2, 10]: print(attempt(socket.socket, family, 3, 1), attempt(socket.socket, family, 3 | 0o4000, 1), attempt(socket.socket, family, 10))",
        "EPERM EPERM EPERM\nEPERM EPERM EPERM",
    );
}
