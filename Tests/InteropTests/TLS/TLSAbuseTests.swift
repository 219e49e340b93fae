// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// Clients that misuse TLS, named by fault; see Helpers/tls_clients.py for what they do and what they check.
@Suite(.fewAtATime)
struct TLSAbuseTests {
    /// What a client does, and what the log says of it, and how often at least.
    struct Scenario: Sendable, CustomTestStringConvertible {
        let name: String
        let count: Int
        let sentence: String
        var testDescription: String { name }

        init(_ name: String, _ count: Int = 0, _ sentence: String = "") {
            (self.name, self.count, self.sentence) = (name, count, sentence)
        }
    }

    static let scenarios: [Scenario] = [
        Scenario("require_tls_first"),
        Scenario("require_export_name", 2, "asked for an export without TLS"),
        Scenario("allow_data_behind", 9, "sent more in the clear behind NBD_OPT_STARTTLS; connection closed"),
        Scenario("allow_state_is_reset"),
        Scenario("allow_starttls_twice"),
        Scenario("allow_versions", 2, "TLS failed: the client has no newer TLS than 1.1"),
        Scenario("allow_weak_ciphers", 6, "TLS failed: the client has no credentials or ciphers of the kind"),
        Scenario("allow_no_client_hello", 8, "TLS failed: the client asked for TLS and then sent something else"),
        Scenario("allow_single_bytes"),
        Scenario("allow_wrong_authority", 2, "TLS failed: the client does not trust server-cert.pem"),
        Scenario("allow_renegotiation"),
        Scenario("allow_truncated_replies"),
        Scenario("allow_truncated_requests", 5, "TLS failed: the client hung up"),
    ]

    @Test(arguments: scenarios)
    func `the client comes to nothing, and nobody else notices`(_ scenario: Scenario) async throws {
        try await TLSTestBed.run { bed in
            let mode = scenario.name.hasPrefix("require") ? "require" : "allow"
            let options = bed.certificates() + ["--tls=\(mode)", "--writable"]
            try await bed.serve(options) { server in
                let original = try bed.directory.write("original.raw", bed.contents)
                try await bed.undisturbed(server, .certificate("anonymous")) {
                    try await bed.abuse(server, scenario.name, [original])
                    try await bed.expectLog(server, [scenario.sentence], count: scenario.count)
                    // The good client only.
                    try await bed.expectClients(server, 1)
                }
                #expect(Difference.describe(try File.contents(bed.image), bed.contents) == nil, "nothing is written")
            }
        }
    }
}
