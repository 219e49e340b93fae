// SPDX-License-Identifier: Apache-2.0

import BlockIO
import SystemPackage
import Testing

/// What names of files in images mean.
@Suite struct ReferenceNameTests {
    private func meaning(_ name: String) throws(ReferenceName.Refusal) -> ReferenceName {
        try ReferenceName(FileReference(bytes: Array(name.utf8), shown: name))
    }

    @Test(
        arguments: [
            ("b", "b", nil), ("./a:b", "./a:b", nil), ("/x/y", "/x/y", nil), ("file:/x", "/x", nil),
            ("file:b", "b", nil),
            ("file:///x/y", "/x/y", nil), (#"json:{"driver":"file","filename":"b"}"#, "b", "file"),
            (#"json:{"driver":"qcow2","file":{"driver":"file","filename":"/x/b"}}"#, "/x/b", "qcow2"),
            (#"json: {"file.filename" : "a:b"} "#, "a:b", nil), (#"json:{"file":{"filename":"b"}}"#, "b", nil),
            (#"json:{"driver":"raw","file.driver":"file","file.filename":"b"}"#, "b", "raw"),
            (#"json:{"driver":"luks","file":{"driver":"host_device","filename":"/dev/x"}}"#, "/dev/x", "luks"),
            (
                #"json:{"driver":"raw","node-name":"n","read-only":true,"file":{"driver":"file","filename":"b","locking":"off","#
                    + #""cache":{"direct":true}}}"#, "b", "raw"
            ),
        ] as [(String, String, String?)])
    func `names of plain files are understood`(name: String, path: String, format: String?) throws {
        let found = try meaning(name)
        #expect(found.path == FilePath(path) && found.format == format)
    }

    @Test(arguments: [
        "json:", "json:{}", "json:[]", "json:{'driver':'file'}", #"json:{"filename":"b"}"#, #"json:{"file":"node"}"#,
        #"json:{"driver":"qcow2","filename":"b"}"#, #"json:{"driver":"nbd","host":"x"}"#,
        #"json:{"driver":"raw","file":{"driver":"nbd","path":"/s"}}"#,
        #"json:{"driver":"raw","file":{"driver":"https","url":"https://x/y"}}"#,
        #"json:{"driver":"raw","offset":512,"file":{"driver":"file","filename":"b"}}"#,
        #"json:{"driver":"raw","size":"512","file.filename":"b"}"#, #"json:{"driver":"raw","file":{"filename":7}}"#,
        #"json:{"driver":"qcow2","backing":null,"file.filename":"b"}"#, #"json:{"driver":7,"file.filename":"b"}"#,
        #"json:{"file":{"filename":"a"},"file.filename":"b"}"#, #"json:{"file.filename":"a","file.filename":"b"}"#,
        #"json:{"driver":"raw","file":{"driver":"raw","file":{"filename":"b"}}}"#, #"json:{"file.filename":"b"}x"#,
        "nbd:x", "nbd+unix:///x", "file://host/x", "a:b", "fat:/x",
    ])
    func `what is no plain file can be copied`(name: String) {
        #expect {
            try meaning(name)
        } throws: { error in
            guard let refusal = error as? ReferenceName.Refusal else { return false }
            return refusal.help == .copy && refusal.reason.hasPrefix("is ")
        }
    }

    @Test func `a file that needs a secret alone can be named plainly`() {
        for name in [
            #"json:{"driver":"luks","key-secret":"s","file":{"driver":"file","filename":"b"}}"#,
            #"json:{"encrypt.key-secret":"s","driver":"luks","file.filename":"b"}"#,
            #"json:{"encrypt":{"format":"aes","key-secret":"s"},"driver":"luks","file.filename":"b"}"#,
        ] {
            #expect {
                try meaning(name)
            } throws: { ($0 as? ReferenceName.Refusal)?.help == .rename(path: "b", format: "luks") }
        }
    }

    @Test(arguments: [
        "", "file:", "a\0b", "a\nb", "json:{\"file.filename\":\"\"}", "json:{\"file.filename\":\"a\\nb\"}",
    ])
    func `what cannot be said needs a new name`(name: String) {
        #expect {
            try meaning(name)
        } throws: { ($0 as? ReferenceName.Refusal)?.help == .newName }
    }
}
