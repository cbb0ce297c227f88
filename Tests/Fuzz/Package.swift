// swift-tools-version:6.2
import PackageDescription

// A package of its own: fuzzing needs coverage in all code that runs, and only the parsers and what they need, so that it
// builds in minutes. The targets are those of the main package, or the part of them that can be had without a web server
// and TLS; `Links` leads to their sources. Versions are those of the main package's Package.resolved (scripts/fuzz).

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    // Internal parsers are reached with @testable, in a release build too.
    // `-assert-config Debug` checks the bounds of unsafe buffers, which an optimized build takes on trust.
    .unsafeFlags(["-enable-testing", "-assert-config", "Debug"]),
]

let nio = "swift-nio"

let package = Package(
    name: "holdfast-fuzz",
    platforms: [.macOS(.v15)],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.6.0"),
        .package(url: "https://github.com/jpsim/Yams.git", from: "6.2.0"),
    ],
    targets: [
        .target(
            name: "HoldfastProtocol",
            dependencies: [.product(name: "NIOCore", package: nio)],
            path: "Links/HoldfastProtocol",
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastCore",
            dependencies: [
                "HoldfastProtocol",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
            ],
            path: "Links/HoldfastCore",
            swiftSettings: settings
        ),
        .target(
            name: "RESP",
            dependencies: [.product(name: "NIOCore", package: nio)],
            path: "Links/RESP",
            sources: ["Codec", "RESPError.swift"],
            swiftSettings: settings
        ),
        // TLS files are not fuzzed; reading them would open whatever file a mutated configuration names.
        .target(name: "NIOSSL", path: "Stubs/NIOSSL", swiftSettings: settings),
        .target(
            name: "HoldfastBroker",
            dependencies: [
                "HoldfastProtocol", "HoldfastCore", "NIOSSL",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
            ],
            path: "Links/HoldfastBroker",
            sources: ["Broker.swift", "PublishingRules.swift", "Memory", "Redis/RedisSettings.swift"],
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastServer",
            dependencies: [
                "HoldfastProtocol", "HoldfastCore", "HoldfastBroker", "NIOSSL",
                .product(name: "Yams", package: "Yams"),
            ],
            path: "Links/HoldfastServer",
            sources: ["Configuration", "Callbacks/Callback.swift"],
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastClient",
            dependencies: ["HoldfastProtocol", "HoldfastCore", .product(name: "NIOCore", package: nio)],
            path: "Links/HoldfastClient",
            sources: ["GatewayURL.swift", "Line/ClientHandshake.swift", "Line/EventStreamParser.swift"],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "Fuzz",
            dependencies: [
                "HoldfastProtocol", "HoldfastCore", "HoldfastBroker", "HoldfastServer", "HoldfastClient", "RESP",
                .product(name: "NIOCore", package: nio),
            ],
            path: "Fuzz",
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
