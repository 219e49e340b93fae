// SPDX-License-Identifier: Apache-2.0

/// Where the certificates of a server are, and which clients it lets in: files in PEM form, named as QEMU and nbdkit
/// name them.
public struct TLSCertificates: Sendable {
    /// Holds server-cert.pem (with the certificates between it and the authority, if any) and server-key.pem; for
    /// ``verifiesPeer`` also ca-cert.pem, and ca-crl.pem if there are revoked certificates.
    public let directory: String
    /// Whether a client must show a certificate that one in ca-cert.pem has signed and ca-crl.pem does not revoke.
    public let verifiesPeer: Bool
    /// Who is let in, as `CN=laptop.example.com,O=Example Home`, most specific first; nil: whoever has a certificate.
    public let allowedNames: [String]?

    /// Files of `directory`, and who may connect with them.
    public init(directory: String, verifiesPeer: Bool = false, allowedNames: [String]? = nil) {
        self.directory = directory
        self.verifiesPeer = verifiesPeer
        self.allowedNames = allowedNames
    }

    /// The path of a file in the directory.
    func path(_ name: String) -> String { directory.hasSuffix("/") ? directory + name : "\(directory)/\(name)" }
}
