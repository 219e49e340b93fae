// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage
import Testing

@Suite struct SourceURLTests {
    @Test(arguments: [
        ("nbd://host/disk", "nbd"), ("nbd:localhost:10809", "nbd"), ("nbd+unix:///?socket=/a b", "nbd+unix"),
        ("nbds://host", "nbds"), ("HTTPS://host/a.qcow2", "https"), ("http://host/a", "http"), ("ftp://host/a", "ftp"),
        ("ssh://host/a", "ssh"), ("rbd:pool/image@snapshot", "rbd"), ("iscsi://host/target/0", "iscsi"),
        ("nfs://host/a", "nfs"), ("gluster://host/volume/a", "gluster"), ("gluster+tcp://host/volume/a", "gluster+tcp"),
        (#"json:{"driver":"raw"}"#, "json"), ("file:a", "file"), ("file:///a", "file"),
        ("host_device:/dev/sda", "host_device"),
        ("blkdebug::a", "blkdebug"), ("unknown://host", "unknown"),
    ])
    func `what a protocol reaches is no file`(text: String, scheme: String) throws {
        let url = try #require(SourceURL(text))
        #expect(ImageSource(text) == .remote(url))
        #expect(url.scheme == scheme && url.text == text && ImageSource(text).name == text)
    }

    @Test(arguments: [
        "./nbd:a", "/nbd:a", "a:b.img", "./a:b.img", "a:b:c", "12:00.img", "a b://x", "://x", ":x", "a/b://c", "1a://b",
        "",
        "x", "nbd", "nbd+udp:a", "json",
    ])
    func `a colon alone makes no protocol of a path`(text: String) {
        #expect(SourceURL(text) == nil)
        #expect(ImageSource(text) == .file(FilePath(text)))
        #expect(ImageSource(text).name == FilePath(text).string)
    }

    @Test(arguments: [
        ("http://user:secret@host/a", "http://user@host/a"), ("http://user@host:80/a:b", "http://user@host:80/a:b"),
        ("http://a:b@c:d@host", "http://a@host"), ("http://host:80/x?mail=a:b@c", "http://host:80/x?mail=a:b@c"),
        ("rbd:pool/a:b@c", "rbd:pool/a:b@c"),
    ])
    func `a password is not shown`(text: String, shown: String) {
        #expect(SourceURL(text)?.shown == shown)
        #expect(ImageSource(text).name == shown)
    }

    @Test(arguments: [
        ("http://host/a/disk.img?key=1/2#x", "disk.img"), ("nbd://host", "nbd://host"), ("nbd://host/", "nbd://host/"),
        ("rbd:pool/image", "image"), ("a/b/c", "c"), ("/", "/"),
    ])
    func `an image is called as the last part of its path`(text: String, last: String) {
        #expect(ImageSource(text).lastComponent == last)
    }
}
