// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
// The program of scripts/measure-content-check; a package of its own, because nbdecrypt does not need it.

import PackageDescription

let package = Package(
    name: "measure",
    dependencies: [
        .package(name: "nbdecrypt", path: "../.."),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        .executableTarget(
            name: "measure",
            dependencies: [
                .product(name: "BlockIO", package: "nbdecrypt"),
                .product(name: "Crypto", package: "nbdecrypt"),
                .product(name: "ImageFormats", package: "nbdecrypt"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: [.swiftLanguageMode(.v6), .strictMemorySafety(), .treatAllWarnings(as: .error)])
    ]
)
