// swift-tools-version:6.2
import PackageDescription

let package = Package(
    name: "dashboard",
    platforms: [.macOS(.v15)],
    dependencies: [
        // Where Holdfast's repository lies beside this package.
        .package(name: "holdfast", path: "../holdfast")
    ],
    targets: [
        .executableTarget(
            name: "dashboard",
            dependencies: [.product(name: "HoldfastClient", package: "holdfast")]
        )
    ]
)
