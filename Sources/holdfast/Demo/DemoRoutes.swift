import Foundation
import HTTPTypes
import Hummingbird

/// The page, and the two things that it does beside its line: throw the switch and ask what was published.
struct DemoRoutes {
    let stage: DemoStage

    func add(to router: some RouterMethods<some RequestContext>) {
        router.get("demo") { _, _ in DemoPage.index.response }
        router.get("demo/config") { _, _ in try await Self.json(self.stage.config) }
        router.get("demo/stats") { _, _ in try await Self.json(self.stage.stats()) }
        router.post("demo/cut") { request, context in try await self.cut(request, context) }
        for (name, file) in DemoPage.files {
            router.get("demo/\(name)") { _, _ in file.response }
        }
    }

    private struct Switch: Decodable {
        var cut: Bool
        var mode: DemoStage.Mode?
        var existingOnly: Bool?

        enum CodingKeys: String, CodingKey {
            case cut
            case mode
            case existingOnly = "existing_only"
        }
    }

    private func cut(_ request: Request, _ context: some RequestContext) async throws -> Response {
        // A page of another origin cannot send this type without being asked first, and nobody answers that question.
        guard request.headers[.contentType]?.hasPrefix("application/json") == true else {
            throw HTTPError(.unsupportedMediaType, message: "Send application/json.")
        }
        let order: Switch
        do {
            order = try await JSONDecoder().decode(Switch.self, from: request, context: context)
        } catch is DecodingError {
            throw HTTPError(
                .badRequest,
                message:
                    "Send an object with 'cut': true or false, and if you like 'mode': 'lose' or 'delay', 'existing_only'."
            )
        }
        if order.cut {
            await self.stage.cut(mode: order.mode ?? .lose, existingOnly: order.existingOnly ?? false)
        } else {
            await self.stage.restore()
        }
        return try await Self.json(self.stage.stats())
    }

    private static func json(_ value: (some Encodable)?) throws -> Response {
        guard let value else {
            throw HTTPError(.serviceUnavailable, message: "The demo is not ready yet.")
        }
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return Response(
            status: .ok,
            headers: [.contentType: "application/json", .cacheControl: "no-store"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: try encoder.encode(value)))
        )
    }
}
