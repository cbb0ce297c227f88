import ArgumentParser
import Foundation
import HoldfastClient
import NIOCore

struct Publish: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publish one event through the server API.",
        discussion: """
            The data must be JSON and goes out byte for byte:
              holdfast publish calls.call_1 '{"state":"answered"}'
              echo '{"state":"answered"}' | holdfast publish calls.call_1 -

            The key, if the gateway has one, is read from HOLDFAST_API_KEY. Prints the gateway's answer; exit code 0 means
            that the event was accepted.
            """
    )

    @Argument(help: "Where to publish: service.topic.")
    var subscription: String

    @Argument(help: "The data as JSON; - reads it from standard input.")
    var json: String

    @Option(name: .long, help: "The gateway.")
    var url = "http://127.0.0.1:8080"

    @Option(name: .long, help: "A publication with the same key is accepted once.")
    var idempotencyKey: String?

    func run() async throws {
        let data =
            self.json == "-"
            ? String(decoding: FileHandle.standardInput.readDataToEndOfFile(), as: UTF8.self) : self.json
        do {
            let key = ProcessInfo.processInfo.environment["HOLDFAST_API_KEY"]
            let published = try await EventPublisher(url: self.url, apiKey: key).publish(
                ByteBuffer(string: data), to: self.subscription,
                idempotencyKey: self.idempotencyKey ?? UUID().uuidString)
            printNow(String(buffer: published.answer))
        } catch let error as HoldfastError {
            printError(error.text)
            if error.code == "unreachable" {
                printError("Start one with `holdfast serve --dev --port 8080`, or name another with --url.")
            }
            throw ExitCode.failure
        } catch let error as GatewayURL.Invalid {
            printError(error.description)
            throw ExitCode.failure
        }
    }
}
