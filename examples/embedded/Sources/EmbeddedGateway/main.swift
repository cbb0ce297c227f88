import Foundation
import HoldfastBroker
import HoldfastServer
import Hummingbird
import Logging
import NIOPosix
import ServiceLifecycle

// The gateway and the server must be given the same event loops.
let loops = MultiThreadedEventLoopGroup.singleton

// Anonymous clients, every service.topic allowed, history kept, on port 8080. For production begin with `Configuration()`
// and give the text of a file. The environment overrides both, such as HOLDFAST_WS_PORT.
var configuration = Configuration.development
try configuration.load(yaml: "", file: "environment", environment: ProcessInfo.processInfo.environment)
let gateway = try Gateway(configuration: configuration, eventLoopGroup: loops)

let router = Router(options: .autoGenerateHeadEndpoints)
// Routes of your own …
router.post("calls/:id/answer") { _, context in
    let id = try context.parameters.require("id")
    let receipt = try await gateway.publish(
        PublicationDraft(subscription: "calls.\(id)", data: ByteBuffer(string: #"{"state":"answered"}"#))
    )
    return "published as \(receipt.id)\n"
}
// … beside the gateway's: /api/…, /metrics, /health, /ready, /holdfast.js.
gateway.addRoutes(to: router)

let app = Application(
    router: router,
    server: try .holdfast(gateway),
    configuration: ApplicationConfiguration(address: .hostname(configuration.host, port: configuration.port)),
    eventLoopGroupProvider: .shared(loops)
)

// Services are stopped in reverse order: the gateway sends its clients away while the application still answers.
let services = ServiceGroup(
    services: [app, gateway],
    gracefulShutdownSignals: [.sigterm, .sigint],
    logger: Logger(label: "embedded")
)
try await services.run()
