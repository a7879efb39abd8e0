// Stubs without .proto files: a server describes its services by reflection.
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import descriptor from "protobufjs/ext/descriptor/index.js";
import { fileURLToPath } from "node:url";

const OPTIONS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const DEADLINE_MS = 5000;

/** The questions that can be asked of one server over one stream. */
class Reflection {
  constructor(address, credentials) {
    const protocol = loader.loadSync(fileURLToPath(new URL("reflection.proto", import.meta.url)), OPTIONS);
    const Stub = grpc.loadPackageDefinition(protocol).grpc.reflection.v1alpha.ServerReflection;
    this.client = new Stub(address, credentials);
    this.stream = this.client.ServerReflectionInfo({ deadline: Date.now() + DEADLINE_MS });
    this.answers = this.stream[Symbol.asyncIterator]();
  }

  async ask(question) {
    this.stream.write(question);
    const { value } = await this.answers.next();
    if (value === undefined) throw new Error("the reflection stream ended without an answer");
    if (value.error_response) throw new Error(value.error_response.error_message);
    return value;
  }

  async services() {
    const answer = await this.ask({ list_services: "" });
    return answer.list_services_response.service.map((service) => service.name);
  }

  /** The file that declares a symbol, and all that it imports, as one descriptor set. */
  async files(symbol) {
    const known = new Map();
    const take = (answer) => {
      for (const bytes of answer.file_descriptor_response.file_descriptor_proto) {
        const file = descriptor.FileDescriptorProto.decode(bytes);
        known.set(file.name, file);
      }
    };
    take(await this.ask({ file_containing_symbol: symbol }));
    const missing = () => [...known.values()].flatMap((file) => file.dependency).find((name) => !known.has(name));
    for (let name = missing(); name !== undefined; name = missing()) take(await this.ask({ file_by_filename: name }));
    return { file: [...known.values()] };
  }

  close() {
    this.stream.end();
    this.client.close();
  }
}

/**
 * A stub for the first service of a server whose full name ends with a word.
 *
 * @param {string} address HOST:PORT or unix:PATH.
 * @param {grpc.ChannelCredentials} credentials Of the connection.
 * @param {string} suffix For example "MachineService".
 * @returns {Promise<{name: string, client: grpc.Client}>} Full name of the service, and the stub.
 */
export async function discover(address, credentials, suffix) {
  const reflection = new Reflection(address, credentials);
  try {
    const names = await reflection.services();
    const name = names.find((found) => found.endsWith(suffix));
    if (name === undefined) throw new Error(`${address} has no ${suffix}; it has ${names.join(", ")}`);
    const definition = loader.loadFileDescriptorSetFromObject(await reflection.files(name), OPTIONS);
    const Stub = name.split(".").reduce((scope, part) => scope[part], grpc.loadPackageDefinition(definition));
    return { name, client: new Stub(address, credentials) };
  } finally {
    reflection.close();
  }
}
