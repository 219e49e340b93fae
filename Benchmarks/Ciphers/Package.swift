// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
// The table of docs/decisions/0014-cipher-libraries.md; a package of its own, because nbdecrypt does not need it.

import PackageDescription

let package = Package(
    name: "measure",
    dependencies: [.package(name: "nbdecrypt", path: "../..")],
    targets: [
        .target(
            name: "CLibrarySpeed", cSettings: [.treatAllWarnings(as: .error)],
            linkerSettings: [.linkedLibrary("crypto"), .linkedLibrary("gcrypt")]),
        .executableTarget(
            name: "measure",
            dependencies: [
                "CLibrarySpeed",
                .product(name: "BlockIO", package: "nbdecrypt"),
                .product(name: "Crypto", package: "nbdecrypt"),
            ],
            swiftSettings: [.swiftLanguageMode(.v6), .strictMemorySafety(), .treatAllWarnings(as: .error)]),
    ]
)
