import ArgumentParser
import AsyncHTTPClient
import Foundation
import NIOCore
import NIOHTTP1

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
        let answer: ServerAPI.Answer
        do {
            answer = try await ServerAPI(url: self.url).publish(
                self.subscription, data: data, idempotencyKey: self.idempotencyKey)
        } catch let error as ServerAPI.Unreachable {
            printError(error.description)
            throw ExitCode.failure
        }
        guard answer.isSuccess else {
            printError("\(answer.status): \(answer.body)")
            throw ExitCode.failure
        }
        printNow(answer.body)
    }
}
