// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0

import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    // A request passes through all modules: without this, generic code and closures between them stay general.
    .unsafeFlags(["-cross-module-optimization"], .when(configuration: .release)),
]

/// The libraries that tests have do much work, in millions of steps: `make check` says that they are to be fast in a debug
/// build, too, which saves more time than it takes to build them so.
let fast: [SwiftSetting] =
    strict
    + (Context.environment["NBDECRYPT_FAST_TESTS"] == nil ? [] : [.unsafeFlags(["-O"], .when(configuration: .debug))])

/// Functions are looked up when the program starts. Otherwise the dynamic linker does it at the first call, and saves on
/// the stack, where nobody wipes them, the registers that a key may just have passed through.
let boundAtStart: [LinkerSetting] = [.unsafeFlags(["-Xlinker", "-z", "-Xlinker", "now"])]

let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let system = Target.Dependency.product(name: "SystemPackage", package: "swift-system")
let subprocess = Target.Dependency.product(name: "Subprocess", package: "swift-subprocess")

let package = Package(
    name: "nbdecrypt",
    products: [
        .executable(name: "nbdecrypt", targets: ["nbdecrypt"]),
        // For programs that open or serve images themselves, as examples/embed does, and for the fuzz targets in Fuzz/.
        .library(name: "BlockIO", targets: ["BlockIO"]),
        .library(name: "ImageFormats", targets: ["ImageFormats"]),
        .library(name: "Crypto", targets: ["Crypto"]),
        .library(name: "DiskStack", targets: ["DiskStack"]),
        .library(name: "NBDServer", targets: ["NBDServer"]),
        // For the fuzz targets alone.
        .library(name: "TestSupport", targets: ["TestSupport"]),
        .library(name: "ServerTestSupport", targets: ["ServerTestSupport"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.2"),
    ],
    targets: [
        .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CTLS", pkgConfig: "libssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CGcrypt", pkgConfig: "libgcrypt", providers: [.apt(["libgcrypt20-dev"])]),
        .systemLibrary(name: "CNettle", pkgConfig: "nettle", providers: [.apt(["nettle-dev"])]),
        .systemLibrary(name: "CArgon2", pkgConfig: "libargon2", providers: [.apt(["libargon2-dev"])]),
        .systemLibrary(name: "CDeflate", pkgConfig: "libdeflate", providers: [.apt(["libdeflate-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CLibNBD", pkgConfig: "libnbd", providers: [.apt(["libnbd-dev"])]),
        .target(name: "CLinux", cSettings: [.treatAllWarnings(as: .error)]),
        .target(name: "BlockIO", dependencies: ["CLinux", system], swiftSettings: fast),
        .target(name: "ImageFormats", dependencies: ["BlockIO", "CDeflate", "CZstd"], swiftSettings: fast),
        .target(
            name: "CSecureHeap", dependencies: ["COpenSSL", "CGcrypt", "CArgon2"],
            cSettings: [.treatAllWarnings(as: .error)]),
        // Its library is loaded when it is needed, and is not there on every kind of machine.
        .target(name: "CMultiBuffer", dependencies: ["CLinux"], cSettings: [.treatAllWarnings(as: .error)]),
        .target(
            name: "Crypto",
            dependencies: [
                "BlockIO", "COpenSSL", "CGcrypt", "CNettle", "CArgon2", "CSecureHeap", "CMultiBuffer", system,
            ],
            swiftSettings: fast),
        .target(
            name: "DiskStack", dependencies: ["BlockIO", "ImageFormats", "Crypto", system], swiftSettings: strict),
        .target(
            name: "NBDServer", dependencies: ["BlockIO", "CLinux", "CSecureHeap", "CTLS", logging, system],
            swiftSettings: fast),
        .executableTarget(
            name: "nbdecrypt",
            dependencies: [
                "BlockIO", "ImageFormats", "Crypto", "DiskStack", "NBDServer", "CLinux", logging, system, subprocess,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict,
            // The default linker warns about a function inside Foundation that the program does not call.
            linkerSettings: boundAtStart + [
                .unsafeFlags(
                    ["-use-ld=lld", "-Xlinker", "-z", "-Xlinker", "pack-relative-relocs"],
                    .when(configuration: .release))
            ]),
        .target(name: "TestSupport", dependencies: ["BlockIO", "Crypto"], swiftSettings: fast),
        .target(
            name: "ServerTestSupport", dependencies: ["BlockIO", "NBDServer", logging, system], swiftSettings: strict),
        .testTarget(name: "BlockIOTests", dependencies: ["BlockIO", "TestSupport", system], swiftSettings: strict),
        .testTarget(
            name: "ImageFormatsTests",
            dependencies: ["BlockIO", "Crypto", "ImageFormats", "TestSupport", subprocess, system],
            swiftSettings: strict),
        .testTarget(
            name: "CryptoTests",
            dependencies: [
                "BlockIO", "Crypto", "COpenSSL", "CGcrypt", "CNettle", "CSecureHeap", "CMultiBuffer", "TestSupport",
            ],
            swiftSettings: strict, linkerSettings: boundAtStart),
        .testTarget(
            name: "DiskStackTests",
            dependencies: ["BlockIO", "Crypto", "DiskStack", "ImageFormats", "TestSupport", system],
            swiftSettings: strict),
        .testTarget(
            name: "NBDServerTests",
            dependencies: ["BlockIO", "NBDServer", "CTLS", "ServerTestSupport", "TestSupport", logging, system],
            swiftSettings: strict),
        .testTarget(
            name: "InteropTests",
            dependencies: [
                "nbdecrypt", "BlockIO", "Crypto", "DiskStack", "ImageFormats", "CLibNBD", "TestSupport", subprocess,
                system,
            ],
            exclude: ["Helpers"],
            swiftSettings: strict),
    ]
)
