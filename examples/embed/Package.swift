// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// A program that serves an encrypted image with the libraries of nbdecrypt: swift run embed IMAGE PASSPHRASE-FILE SOCKET

import PackageDescription

let package = Package(
    name: "embed",
    dependencies: [
        .package(name: "nbdecrypt", path: "../.."),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        .executableTarget(
            name: "embed",
            dependencies: [
                .product(name: "DiskStack", package: "nbdecrypt"),
                .product(name: "NBDServer", package: "nbdecrypt"),
                .product(name: "Logging", package: "swift-log"),
            ])
    ]
)
