// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
//
// Built by scripts/fuzz, which adds the sanitizers for every module.

import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    // libFuzzer brings the main function.
    .unsafeFlags(["-parse-as-library"]),
]

func product(_ name: String) -> Target.Dependency { .product(name: name, package: "nbdecrypt") }

let package = Package(
    name: "Fuzz",
    dependencies: [
        .package(name: "nbdecrypt", path: ".."),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        .target(name: "FuzzMain", cSettings: [.treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "FuzzQcow2",
            dependencies: ["FuzzMain", product("BlockIO"), product("ImageFormats"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzQcow2Writes",
            dependencies: ["FuzzMain", product("BlockIO"), product("ImageFormats"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzQcow2Snapshots",
            dependencies: ["FuzzMain", product("BlockIO"), product("ImageFormats"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzQcow2Bitmaps",
            dependencies: ["FuzzMain", product("BlockIO"), product("ImageFormats"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzQcow",
            dependencies: ["FuzzMain", product("BlockIO"), product("ImageFormats"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzAudit",
            dependencies: ["FuzzMain", product("BlockIO"), product("ImageFormats"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzOptions",
            dependencies: ["FuzzMain", product("BlockIO"), product("NBDServer"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzRequests",
            dependencies: ["FuzzMain", product("BlockIO"), product("NBDServer"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzConnection",
            dependencies: [
                "FuzzMain", product("BlockIO"), product("NBDServer"), product("TestSupport"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzReplies",
            dependencies: [
                "FuzzMain", product("BlockIO"), product("NBDServer"), product("ServerTestSupport"),
                product("TestSupport"),
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzContentCheck",
            dependencies: ["FuzzMain", product("BlockIO"), product("ImageFormats"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzLUKS1",
            dependencies: ["FuzzMain", product("BlockIO"), product("Crypto"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzLUKS2Header",
            dependencies: ["FuzzMain", product("BlockIO"), product("Crypto"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzLUKS2JSON",
            dependencies: ["FuzzMain", product("BlockIO"), product("Crypto"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzReferenceNames",
            dependencies: ["FuzzMain", product("BlockIO"), .product(name: "SystemPackage", package: "swift-system")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzPartitions",
            dependencies: ["FuzzMain", product("BlockIO"), product("ImageFormats"), product("TestSupport")],
            swiftSettings: strict),
        .executableTarget(
            name: "FuzzLVM",
            dependencies: ["FuzzMain", product("BlockIO"), product("ImageFormats"), product("TestSupport")],
            swiftSettings: strict),
    ]
)
