// swift-tools-version:6.2
import PackageDescription

// Warnings are errors for our own code in CI (scripts/test), not here: a newer compiler must not break a user's build.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny")
]

// `HOLDFAST_CANARY=1 swift build` makes a gateway that miscounts, which the simulation has to notice (docs/simulation.md).
let canary: [SwiftSetting] = Context.environment["HOLDFAST_CANARY"] == "1" ? [.define("HOLDFAST_CANARY")] : []

let nio = "swift-nio"

let package = Package(
    name: "holdfast",
    platforms: [.macOS(.v15), .iOS(.v18), .tvOS(.v18), .watchOS(.v11), .visionOS(.v2)],
    products: [
        .executable(name: "holdfast", targets: ["holdfast"]),
        .library(name: "HoldfastServer", targets: ["HoldfastServer", "HoldfastBroker"]),
        .library(name: "HoldfastClient", targets: ["HoldfastClient"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.0"),
        .package(url: "https://github.com/apple/swift-nio-extras.git", from: "1.34.0"),
        .package(url: "https://github.com/apple/swift-http-types.git", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird.git", from: "2.28.0", traits: []),
        .package(url: "https://github.com/swift-server/async-http-client.git", from: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams.git", from: "6.2.0"),
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift.git", from: "0.2.0"),
    ],
    targets: [
        .target(
            name: "HoldfastProtocol",
            dependencies: [.product(name: "NIOCore", package: nio)],
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastCore",
            dependencies: [
                "HoldfastProtocol",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
            ],
            swiftSettings: settings + canary
        ),
        .target(
            name: "RESP",
            dependencies: [
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastBroker",
            dependencies: [
                "HoldfastProtocol", "HoldfastCore", "RESP",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastServer",
            dependencies: [
                "HoldfastProtocol", "HoldfastCore", "HoldfastBroker",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "NIOHTTP1", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Yams", package: "Yams"),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
            ],
            // For browsers; the gateway serves them from memory. The files are links into clients/js.
            resources: [
                .embedInCode("Resources/holdfast.js"),
                .embedInCode("Resources/http.js"),
                .embedInCode("Resources/outbox.js"),
                .embedInCode("Resources/tabs.js"),
                .embedInCode("Resources/tabs-worker.js"),
                .embedInCode("Resources/store.js"),
                .embedInCode("Resources/reconnecting-websocket.js"),
                .embedInCode("Resources/diagnose.js"),
                .embedInCode("Resources/diagnose.html"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastClient",
            dependencies: [
                "HoldfastProtocol", "HoldfastCore",
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "NIOHTTP1", package: nio),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOFoundationCompat", package: nio),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastFaults",
            dependencies: [
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "NIOHTTP1", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
            ],
            // The page of the control API.
            resources: [.embedInCode("Control/control.html")],
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastDrills",
            dependencies: [
                "HoldfastProtocol", "HoldfastCore", "HoldfastClient", "HoldfastFaults",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        .target(
            name: "HoldfastSimulation",
            dependencies: [
                "HoldfastProtocol", "HoldfastCore", "HoldfastBroker", "HoldfastServer", "HoldfastClient",
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOHTTP1", package: nio),
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: settings
        ),
        .executableTarget(
            name: "holdfast",
            dependencies: [
                "HoldfastServer", "HoldfastClient", "HoldfastFaults", "HoldfastDrills", "HoldfastSimulation",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "NIOConcurrencyHelpers", package: nio),
                .product(name: "NIOWebSocket", package: nio),
                .product(name: "NIOHTTPTypesHTTP1", package: "swift-nio-extras"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            // The demo's page, which the binary serves from memory.
            resources: [
                .embedInCode("Demo/page/index.html"),
                .embedInCode("Demo/page/demo.css"),
                .embedInCode("Demo/page/demo.js"),
                .embedInCode("Demo/page/calls.js"),
                .embedInCode("Demo/page/chart.js"),
                .embedInCode("Demo/page/ledger.js"),
                .embedInCode("Demo/page/line.js"),
                .embedInCode("Demo/page/words.js"),
                // What `import-socketshark` gives to Python.
                .embedInCode("ImportSocketShark/import_socketshark.py"),
            ],
            swiftSettings: settings
        ),
        // The example's own source, built here too so that the tests can run it; examples/embedded is a package of its own.
        .executableTarget(
            name: "ExampleEmbedded",
            dependencies: [
                "HoldfastServer", "HoldfastBroker",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "NIOPosix", package: nio),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            path: "examples/embedded/Sources/EmbeddedGateway",
            swiftSettings: settings
        ),
        // As above.
        .executableTarget(
            name: "ExampleDashboard",
            dependencies: [
                "HoldfastClient",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            path: "examples/swift-dashboard/Sources/SwiftDashboard",
            swiftSettings: settings
        ),
        .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: settings),
        .testTarget(
            name: "HoldfastProtocolTests",
            dependencies: [
                "HoldfastProtocol", "TestSupport",
                .product(name: "NIOCore", package: nio),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "RESPTests",
            dependencies: [
                "RESP", "TestSupport",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
                .product(name: "NIOEmbedded", package: nio),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "HoldfastBrokerTests",
            dependencies: [
                "HoldfastBroker", "HoldfastProtocol", "HoldfastCore", "TestSupport",
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "HoldfastServerTests",
            dependencies: [
                "HoldfastServer", "HoldfastBroker", "HoldfastCore", "HoldfastProtocol",
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "HoldfastCoreTests",
            dependencies: [
                "HoldfastCore", "HoldfastProtocol", "TestSupport",
                .product(name: "NIOCore", package: nio),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "HoldfastClientTests",
            dependencies: [
                "HoldfastClient", "HoldfastCore", "HoldfastProtocol",
                .product(name: "Metrics", package: "swift-metrics"),
                // The tests run against a real gateway with a fault proxy before it.
                "HoldfastServer", "HoldfastBroker", "HoldfastFaults",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "HoldfastSimulationTests",
            dependencies: [
                "HoldfastSimulation", "HoldfastCore", "HoldfastProtocol", "TestSupport",
                .product(name: "NIOCore", package: nio),
            ],
            swiftSettings: settings
        ),
        .testTarget(
            name: "HoldfastFaultsTests",
            dependencies: [
                "HoldfastFaults",
                .product(name: "NIOCore", package: nio),
                .product(name: "NIOPosix", package: nio),
                .product(name: "NIOConcurrencyHelpers", package: nio),
            ],
            swiftSettings: settings
        ),
    ],
    swiftLanguageModes: [.v6]
)
